//! Recurrent cells and layers.

use candle_core::{DType, Device, Tensor};
use treex_core::{Key, Leaf, Parameter, Result, prelude::*};
use treex_nn::initializers::{constant, normal};
use treex_nn::{
    BatchNorm, Bidirectional, Carry, ConvLstmCell, Dropout, GruCell, LstmCell, MguCell, OptimizedLstmCell,
    Rnn, RnnCell, SimpleCell, hard_tanh, soft_sign,
};
use treex_testing::{NO_ELEMENTS, device, skip};

use crate::case::{Case, Subject, assert_close, subject};
use crate::conv::padding;

pub(crate) const FIXTURE: &str = include_str!("../fixtures/layers/recurrent.json");

pub(crate) fn build(case: &Case) -> Box<dyn Subject> {
    match (case.layer.as_str(), case.config("cell").as_str().unwrap()) {
        ("RNN", "SimpleCell") => run(case, simple(case)),
        ("RNN", "LSTMCell") => run(case, lstm(case)),
        ("RNN", "GRUCell") => run(case, gru(case)),
        ("RNN", "MGUCell") => run(case, mgu(case)),
        ("RNN", "ConvLSTMCell") => run(case, conv_lstm(case)),
        ("Bidirectional", "GRUCell") => run_both(case, gru(case), gru(case)),
        ("Bidirectional", "LSTMCell") => run_both(case, lstm(case), gru(case)),
        ("SimpleCell", _) => step(simple(case)),
        ("LSTMCell", _) => step(lstm(case)),
        ("OptimizedLSTMCell", _) => step::<OptimizedLstmCell>(lstm(case)),
        ("GRUCell", _) => step(gru(case)),
        ("MGUCell", _) => step(mgu(case)),
        ("ConvLSTMCell", _) => step(conv_lstm(case)),
        other => panic!("no layer {other:?}"),
    }
}

fn sizes(case: &Case) -> (usize, usize) {
    (case.usize("in"), case.usize("features"))
}

fn simple(case: &Case) -> SimpleCell {
    let (din, features) = sizes(case);
    let cell = SimpleCell::new(din, features).residual(case.bool("residual"));
    if case.bool("functions") { cell.activation_fn(soft_sign) } else { cell }
}

fn lstm(case: &Case) -> LstmCell {
    let (din, features) = sizes(case);
    let cell = LstmCell::new(din, features);
    if case.bool("functions") { cell.gate_fn(hard_tanh).activation_fn(soft_sign) } else { cell }
}

fn gru(case: &Case) -> GruCell {
    let (din, features) = sizes(case);
    let cell = GruCell::new(din, features);
    if case.bool("functions") { cell.gate_fn(hard_tanh).activation_fn(soft_sign) } else { cell }
}

fn mgu(case: &Case) -> MguCell {
    let (din, features) = sizes(case);
    let cell = MguCell::new(din, features).reset_gate(case.bool("reset_gate"));
    if case.bool("functions") { cell.gate_fn(hard_tanh).activation_fn(soft_sign) } else { cell }
}

fn conv_lstm(case: &Case) -> ConvLstmCell {
    let (din, features) = sizes(case);
    ConvLstmCell::new(din, features, case.sizes("kernel_size"))
        .padding(padding(case.config("padding")))
        .use_bias(case.bool("use_bias"))
}

/// A carry like `like`, of the next of `tensors`.
fn carry<C: Carry>(like: &C, tensors: &mut impl Iterator<Item = Tensor>) -> Result<C> {
    like.map_tensors(&mut |_| Ok(tensors.next().unwrap()))
}

fn outputs<C: Carry>((carry, y): (C, Tensor)) -> Vec<Tensor> {
    std::iter::once(&y).chain(carry.tensors()).cloned().collect()
}

fn step<C: RnnCell + 'static>(cell: C) -> Box<dyn Subject> {
    subject(cell, |cell, inputs| {
        let like = cell.initialize_carry(0.into(), &inputs[0])?;
        let carry = carry(&like, &mut inputs[1..].iter().cloned())?;
        Ok(outputs(cell.step(&carry, &inputs[0])?))
    })
}

/// The first step of `x`, as a sample.
fn first(x: &Tensor, axes: usize, time_major: bool) -> Result<Tensor> {
    let axis = if time_major { 0 } else { x.rank() - axes - 1 };
    Ok(x.narrow(axis, 0, 1)?.squeeze(axis)?)
}

fn run<C: RnnCell + 'static>(case: &Case, cell: C) -> Box<dyn Subject> {
    let (has_carry, has_lengths, time_major) =
        (case.bool("carry"), case.bool("lengths"), case.bool("time_major"));
    let rnn = Rnn::new(cell)
        .time_major(time_major)
        .reverse(case.bool("reverse"))
        .keep_order(case.bool("keep_order"));
    subject(rnn, move |rnn, inputs| {
        let x = first(&inputs[0], rnn.cell.num_feature_axes(), time_major)?;
        let like = rnn.cell.initialize_carry(0.into(), &x)?;
        let initial = if has_carry { Some(carry(&like, &mut inputs[1..].iter().cloned())?) } else { None };
        Ok(outputs(rnn.call_with(
            &inputs[0],
            initial.as_ref(),
            has_lengths.then(|| inputs.last().unwrap()),
        )?))
    })
}

fn run_both<F: RnnCell + 'static, B: RnnCell + 'static>(case: &Case, f: F, b: B) -> Box<dyn Subject> {
    let (has_carry, has_lengths, time_major) =
        (case.bool("carry"), case.bool("lengths"), case.bool("time_major"));
    let rnn = Bidirectional::new(Rnn::new(f), Rnn::new(b)).time_major(time_major);
    subject(rnn, move |rnn, inputs| {
        let x = first(&inputs[0], 1, time_major)?;
        let like = (
            rnn.forward_rnn.cell.initialize_carry(0.into(), &x)?,
            rnn.backward_rnn.cell.initialize_carry(0.into(), &x)?,
        );
        let initial = if has_carry { Some(carry(&like, &mut inputs[1..].iter().cloned())?) } else { None };
        Ok(outputs(rnn.call_with(
            &inputs[0],
            initial.as_ref(),
            has_lengths.then(|| inputs.last().unwrap()),
        )?))
    })
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, device()).unwrap()
}

#[test]
fn initial_carries() -> Result<()> {
    let x = zeros(&[2, 5, 3]);
    let cell = LstmCell::new(3, 4).param_dtype(DType::F64);
    let (c, h) = cell.initialize_carry(Key::from(0), &x)?;
    assert_eq!((c.dims(), c.dtype(), h.dims()), (&[2, 5, 4][..], DType::F64, &[2, 5, 4][..]));
    assert_eq!(c.sqr()?.sum_all()?.to_scalar::<f64>()?, 0.);

    // As in Flax, each tensor has its own key.
    let cell = LstmCell::new(3, 4).carry_init(normal(1.));
    let [first, second] = Key::from(7).split2();
    let (c, h) = cell.initialize_carry(Key::from(7), &x)?;
    assert_eq!(c.to_vec3::<f32>()?, first.normal((2, 5, 4), DType::F32)?.to_vec3::<f32>()?);
    assert_eq!(h.to_vec3::<f32>()?, second.normal((2, 5, 4), DType::F32)?.to_vec3::<f32>()?);

    let mut rnn = Rnn::new(GruCell::new(3, 4).carry_init(normal(1.))).init_key(7).init(0, device())?;
    let carry = rnn.cell.initialize_carry(Key::from(7), &zeros(&[2, 3]))?;
    let (last, y) = rnn.call_with(&x, Some(&carry), None)?;
    assert_eq!(rnn.call(&x)?.to_vec3::<f32>()?, y.to_vec3::<f32>()?);
    assert_ne!(rnn.init_key(8).call(&x)?.to_vec3::<f32>()?, y.to_vec3::<f32>()?);
    assert_eq!(last.dims(), [2, 4]);
    Ok(())
}

#[test]
fn biases_of_a_minimal_cell() -> Result<()> {
    let mgu = MguCell::new(2, 1).forget_bias_init(constant(2.)).activation_bias_init(constant(3.));
    let mgu = mgu.init(0, device())?;
    for (layer, value) in [(&mgu.if_, 2.), (&mgu.in_, 3.), (&mgu.hn, 3.)] {
        assert_eq!(Leaf::get_optional(&layer.bias)?.unwrap().to_vec1::<f32>()?, [value]);
    }
    Ok(())
}

#[test]
fn a_carry_that_becomes_wider() -> Result<()> {
    let mut rnn = Rnn::new(GruCell::new(3, 4)).init(0, device())?;
    let x = zeros(&[2, 3, 3]).to_dtype(DType::F64)?;
    let (last, y) = rnn.call_with(&x, None, Some(&Tensor::new(&[1u32, 3], device())?))?;
    assert_eq!((last.dtype(), y.dtype()), (DType::F64, DType::F64));
    Ok(())
}

/// A sequence of no steps keeps its initial carry, whatever its padding is.
#[test]
fn a_length_of_zero() -> Result<()> {
    let mut rnn = Rnn::new(GruCell::new(3, 4)).init(0, device())?;
    let x = Tensor::ones((2, 3, 3), DType::F32, device())?;
    let carry = Tensor::ones((2, 4), DType::F32, device())?;
    let lengths = Tensor::new(&[0u32, 2], device())?;
    let (last, y) = rnn.call_with(&x, Some(&carry), Some(&lengths))?;
    assert_eq!(last.get(0)?.to_vec1::<f32>()?, [1.; 4]);
    assert_eq!(last.get(1)?.to_vec1::<f32>()?, y.get(1)?.get(1)?.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn inferred_sizes_and_names() -> Result<()> {
    let x = zeros(&[2, 3, 5]);
    let names = |leaves: Vec<(treex_core::Path, treex_core::KindTag, &treex_core::Handle)>| -> Vec<String> {
        leaves.iter().map(|(path, _, leaf)| format!("{path} {:?}", leaf.shape().unwrap().dims())).collect()
    };
    let given = Bidirectional::new(Rnn::new(MguCell::new(5, 2)), Rnn::new(SimpleCell::new(5, 2)));
    let learned = Bidirectional::new(Rnn::new(MguCell::lazy(2)), Rnn::new(SimpleCell::lazy(2)));
    let (given, learned) = (given.init_linen(3, device())?, learned.inferred(&x)?.init_linen(3, device())?);
    assert_eq!(names(given.leaves()), names(learned.leaves()));
    assert_eq!(
        names(given.filter(treex_core::path("backward_rnn.**")).leaves()),
        [
            "backward_rnn.cell.i.kernel [5, 2]",
            "backward_rnn.cell.i.bias [2]",
            "backward_rnn.cell.h.kernel [2, 2]"
        ]
    );
    for ((_, _, a), (_, _, b)) in given.leaves().into_iter().zip(learned.leaves()) {
        let values =
            |leaf: &treex_core::Handle| leaf.value().unwrap().flatten_all().unwrap().to_vec1::<f32>();
        assert_eq!(values(a)?, values(b)?);
    }
    Ok(())
}

#[test]
fn sizes_of_zero() -> Result<()> {
    if skip("sizes_of_zero", NO_ELEMENTS) {
        return Ok(());
    }
    let mut rnn = Bidirectional::new(Rnn::new(LstmCell::new(3, 4)), Rnn::new(LstmCell::new(3, 4)));
    rnn = rnn.init(0, device())?;
    assert_eq!(rnn.call(&zeros(&[0, 2, 3]))?.dims(), [0, 2, 8]);
    let lengths = Tensor::zeros(0, DType::U32, device())?;
    assert_eq!(rnn.call_with(&zeros(&[0, 2, 3]), None, Some(&lengths))?.1.dims(), [0, 2, 8]);
    Ok(())
}

/// A user's cell with all state that a step may write: running statistics and a key.
#[derive(Clone, Debug, TreeObject)]
struct Noisy {
    gru: GruCell,
    norm: BatchNorm,
    dropout: Dropout,
}

impl RnnCell for Noisy {
    type Carry = Tensor;

    fn initialize_carry(&self, key: Key, x: &Tensor) -> Result<Tensor> {
        self.gru.initialize_carry(key, x)
    }

    fn step(&mut self, h: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (h, y) = self.gru.step(h, x)?;
        Ok((h, self.dropout.call(&self.norm.call(&y)?)?))
    }
}

/// One node of the graph equals a loop over the steps: values, gradients, statistics, keys.
#[test]
fn state_in_a_cell_is_kept_between_steps() -> Result<()> {
    let noisy = Noisy { gru: GruCell::new(3, 4), norm: BatchNorm::new(4), dropout: Dropout::new(0.5) };
    let mut rnn = Rnn::new(noisy).init(0, device())?;
    rnn = rnn.into_dtype(DType::F64)?;
    let x = Key::from(1).normal((5, 3, 3), DType::F64)?.to_device(device())?;
    let carry = Key::from(2).normal((5, 4), DType::F64)?.to_device(device())?;
    let leaves = (Leaf::<Parameter>::new(&x)?, Leaf::<Parameter>::new(&carry)?);
    let mut scanned = (rnn, leaves);
    let mut looped = scanned.clone();
    let loss = |carry: &Tensor, y: &Tensor| Ok((y.sqr()?.sum_all()? + carry.exp()?.sum_all()?)?);
    let (a, grads) = scanned.value_and_grad(Parameter, |(rnn, (x, carry))| {
        let (carry, y) = rnn.call_with(&x.get()?, Some(&carry.get()?), None)?;
        loss(&carry, &y)
    })?;
    let (b, wanted) = looped.value_and_grad(Parameter, |(rnn, (x, carry))| {
        let (x, mut carry, mut ys) = (x.get()?, carry.get()?, Vec::new());
        for t in 0..3 {
            let (next, y) = rnn.cell.step(&carry, &x.get_on_dim(1, t)?)?;
            carry = next;
            ys.push(y);
        }
        loss(&carry, &Tensor::stack(&ys, 1)?)
    })?;
    assert_close(&a, &b, 1e-12, "loss");
    for (got, want) in [(&grads, &wanted), (&scanned, &looped)] {
        for ((path, _, got), (_, _, want)) in got.leaves().into_iter().zip(want.leaves()) {
            assert_close(got.value().unwrap(), want.value().unwrap(), 1e-12, &path.to_string());
        }
    }
    Ok(())
}

/// As nodes of a graph, these steps would overflow the stack. The simulated device takes milliseconds for each.
#[test]
fn a_long_sequence_trains() -> Result<()> {
    let train = || -> Result<()> {
        let steps = if device().is_cpu() { 5000 } else { 40 };
        let rnn = Rnn::new(LstmCell::new(2, 3)).reverse(true).keep_order(true).init(0, device())?;
        let x = Key::from(1).normal((2, steps, 2), DType::F32)?;
        let x = Leaf::<Parameter>::new(x.to_device(device())?)?;
        let lengths = Tensor::new(&[steps as u32, steps as u32 / 5 * 4], device())?;
        let (_, grads) = (rnn, x).value_and_grad(Parameter, |(rnn, x)| {
            let ((c, h), y) = rnn.call_with(&x.get()?, None, Some(&lengths))?;
            Ok((y.sqr()?.mean_all()? + (c.sum_all()? + h.sum_all()?)?)?)
        })?;
        for (path, _, grad) in grads.leaves() {
            let largest = grad.value().unwrap().abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(largest.is_finite() && largest > 0., "{path}: {largest}");
        }
        Ok(())
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(train)?;
    thread.join().unwrap()
}

/// Lengths on a device are not read to check them: the carry of one that is out of range is NaN, and no other.
#[test]
fn lengths_out_of_range() -> Result<()> {
    let mut rnn = Rnn::new(GruCell::new(3, 4)).init(0, device())?;
    let lengths = Tensor::new(&[6i64, 1, -1, 5], device())?;
    let run = rnn.call_with(&zeros(&[4, 5, 3]), None, Some(&lengths));
    if device().is_cpu() {
        assert!(run.unwrap_err().to_string().contains("found 6"));
        return Ok(());
    }
    let carries = run?.0.to_vec2::<f32>()?;
    let is_nan: Vec<_> = carries.iter().map(|carry| carry.iter().all(|x| x.is_nan())).collect();
    let is_some: Vec<_> = carries.iter().map(|carry| carry.iter().any(|x| x.is_nan())).collect();
    assert_eq!((&is_nan, &is_nan), (&vec![true, false, true, false], &is_some), "{carries:?}");
    Ok(())
}

#[test]
fn errors_of_recurrent_layers() -> Result<()> {
    let mut rnn = Rnn::new(GruCell::new(3, 4)).init(0, device())?;
    let lengths = |lengths: &[i64]| Tensor::new(lengths, &Device::Cpu).unwrap();
    let x = zeros(&[2, 5, 3]);
    let mut cell = LstmCell::new(3, 4).init(0, device())?;
    let mut strided = Rnn::new(ConvLstmCell::new(1, 2, [3]).strides(2)).init(0, device())?;
    let cases = [
        (
            strided.call_with(&zeros(&[2, 5, 4, 1]), None, None).err(),
            "change the size of the carry: expected [2, 4] before the channels, found [2, 2]",
        ),
        (rnn.call_with(&zeros(&[3]), None, None).err(), "expected [batch.., time, features], found [3]"),
        (rnn.call_with(&zeros(&[2, 0, 3]), None, None).err(), "`Rnn` got an input without steps"),
        (
            rnn.clone().time_major(true).call_with(&zeros(&[0, 2, 3]), None, None).err(),
            "expected [time, batch.., features]",
        ),
        (rnn.call_with(&zeros(&[2, 5, 4]), None, None).err(), "`Linear` got an input of the wrong width"),
        (
            rnn.call_with(&x, None, Some(&lengths(&[6, 1]))).err(),
            "expected integers from 0 to 5, of shape [2], found 6",
        ),
        (rnn.call_with(&x, None, Some(&lengths(&[5, -1]))).err(), "found -1"),
        (rnn.call_with(&x, None, Some(&lengths(&[5]))).err(), "found `i64` of shape [1]"),
        (rnn.call_with(&x, None, Some(&zeros(&[2]))).err(), "found `f32` of shape [2]"),
        (
            rnn.call_with(&x, Some(&zeros(&[1, 4])), None).err(),
            "`GruCell` got a carry of the wrong shape: expected [2, 4] for an input [2, 3], found [1, 4]",
        ),
        (
            cell.step(&(zeros(&[2, 4]), zeros(&[2, 3])), &zeros(&[2, 3])).err(),
            "`LstmCell` got a carry of the wrong shape: expected [2, 4] for an input [2, 3], found [2, 3]",
        ),
    ];
    for (error, words) in cases {
        let error = error.unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
    Ok(())
}
