use candle_core::{DType, Device, Tensor};
use treex_core::autograd::with_reference;
use treex_core::{Key, Leaf, Module, Parameter, Tree};

use super::*;
use crate::initializers::normal;
use crate::{Carry, GRUCell, LSTMCell, MGUCell, RNN, RnnCell, SimpleCell};

/// Batch dimensions, steps, inputs and features. One sequence, one step, sizes that fill no vector and no panel, and
/// sequences for several threads.
const SIZES: [(&[usize], usize, usize, usize); 6] = [
    (&[], 3, 1, 1),
    (&[1], 1, 3, 2),
    (&[2], 4, 3, 5),
    (&[3, 2], 2, 5, 4),
    (&[9], 5, 17, 33),
    (&[19], 3, 6, 70),
];

/// `[time_major, reverse, keep_order]`.
const WAYS: [[bool; 3]; 6] = [
    [false, false, false],
    [true, false, false],
    [false, true, false],
    [true, true, false],
    [false, true, true],
    [true, true, true],
];

/// What is differentiated: the layer, the input with permuted dimensions, and the first carry.
type Inputs<C> = (RNN<C>, Leaf<Parameter>, Vec<Leaf<Parameter>>);

fn inputs<C: RnnCell>(
    cell: C,
    (batch, time, inputs, features): (&[usize], usize, usize, usize),
    [time_major, reverse, keep_order]: [bool; 3],
) -> Result<Inputs<C>> {
    let rnn = RNN::new(cell).time_major(time_major).reverse(reverse).keep_order(keep_order);
    let leaf = |seed: u64, dims: &[usize]| Leaf::new(Key::from(seed).normal(dims, DType::F64)?);
    let dims = if time_major { [&[time], batch].concat() } else { [batch, &[time]].concat() };
    let x = leaf(1, &[&[inputs], dims.as_slice()].concat())?;
    let rnn = rnn.init(0, &Device::Cpu)?;
    let sample = Tensor::zeros([batch, &[inputs]].concat(), DType::F64, &Device::Cpu)?;
    let carry = rnn.cell.initialize_carry(Key::from(0), &sample)?;
    let carry = (2..).zip(carry.tensors()).map(|(seed, _)| leaf(seed, &[batch, &[features]].concat()));
    Ok((rnn, x, carry.collect::<Result<_>>()?))
}

/// The weighted sum of outputs and carry, and the outputs and the carry.
fn run<C: RnnCell>(
    (rnn, x, carry): &mut Inputs<C>,
    lengths: Option<&Tensor>,
) -> Result<(Tensor, Vec<Tensor>)> {
    let x = x.get()?;
    let x = x.permute((1..x.rank()).chain([0]).collect::<Vec<_>>())?;
    let mut tensors = carry.iter().map(Leaf::get).collect::<Result<Vec<_>>>()?.into_iter();
    let sample = x.narrow(0, 0, 0)?.detach();
    let like = rnn.cell.initialize_carry(Key::from(0), &sample)?;
    let first = like.map_tensors(&mut |like| Ok(tensors.next().unwrap_or_else(|| like.clone())))?;
    let (last, y) = rnn.run(&x, Some(&first), lengths)?;
    let outputs: Vec<Tensor> = [&y].into_iter().chain(last.tensors()).cloned().collect();
    let weighted = |(seed, x): (u64, &Tensor)| -> Result<Tensor> {
        let weights = Key::from(seed).normal(x.shape(), DType::BF16)?.to_dtype(DType::F64)?;
        Ok((x.to_dtype(DType::F64)? * weights)?.sum_all()?)
    };
    let loss = (5..).zip(&outputs).map(weighted).reduce(|a, b| Ok((a? + b?)?));
    Ok((loss.unwrap()?, outputs))
}

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// Outputs, carry, and all gradients.
fn all<C: RnnCell>(inputs: &Inputs<C>, lengths: Option<&Tensor>) -> Result<Vec<Vec<f64>>> {
    let ((_, outputs), grads) =
        inputs.clone().value_and_grad_aux(Parameter, |inputs| run(inputs, lengths))?;
    let gradients = grads.leaves().into_iter().filter_map(|(.., leaf)| leaf.value());
    outputs.iter().chain(gradients).map(numbers).collect()
}

/// The operation and the reference composition in `F64`: outputs and gradients, relative to their largest element.
fn compare<C: RnnCell>(inputs: &Inputs<C>, lengths: Option<&Tensor>, what: &str) -> Result<()> {
    for (dtype, tolerance) in
        [(DType::F64, 1e-12), (DType::F32, 2e-6), (DType::F16, 4e-3), (DType::BF16, 3e-2)]
    {
        let mut inputs = inputs.clone();
        inputs = inputs.into_dtype(dtype)?;
        let mut wide = inputs.clone();
        wide = wide.into_dtype(DType::F64)?;
        let (found, wanted) = (all(&inputs, lengths)?, with_reference(|| all(&wide, lengths))?);
        assert_eq!(found.len(), wanted.len(), "{what}");
        for (index, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            let scale = wanted.iter().fold(1f64, |scale, x| scale.max(x.abs()));
            assert_eq!(found.len(), wanted.len(), "{what}: {index}");
            for (a, b) in found.iter().zip(wanted) {
                assert!((a - b).abs() <= tolerance * scale, "{what} {index} {dtype:?}: {a} {b}");
            }
        }
    }
    Ok(())
}

/// All checks of a cell, which the function makes for numbers of inputs and of features.
fn check<C: RnnCell>(cell: impl Fn(usize, usize) -> C) -> Result<()> {
    for sizes in SIZES {
        let made = inputs(cell(sizes.2, sizes.3), sizes, WAYS[0])?;
        compare(&made, None, &format!("{:?} {sizes:?}", made.0.cell.fused()))?;
    }
    let sizes = (&[3][..], 5, 3, 4);
    for way in WAYS {
        for lengths in [None, Some([2u32, 0, 5])] {
            let lengths = lengths.map(|lengths| Tensor::new(&lengths, &Device::Cpu)).transpose()?;
            let made = inputs(cell(3, 4), sizes, way)?;
            let what = format!("{:?} {way:?} {}", made.0.cell.fused(), lengths.is_some());
            compare(&made, lengths.as_ref(), &what)?;
        }
    }
    differences(&mut inputs(cell(3, 4), sizes, WAYS[5])?)
}

/// The derivative of the weighted sum in one direction of each leaf, and its finite difference.
fn differences<C: RnnCell>(inputs: &mut Inputs<C>) -> Result<()> {
    *inputs = inputs.clone().into_dtype(DType::F64)?;
    let lengths = Tensor::new(&[4u32, 1, 5], &Device::Cpu)?;
    let (_, grads) = inputs.clone().value_and_grad_aux(Parameter, |inputs| run(inputs, Some(&lengths)))?;
    for moved in 0..inputs.leaves().len() {
        let direction = |x: &Tensor| Key::from(77).normal(x.shape(), DType::F64);
        let at = |distance: f64| -> Result<f64> {
            let mut index = 0..;
            let mut there = inputs.map(|x| match index.next() == Some(moved) {
                true => Ok((x + (direction(x)? * distance)?)?),
                false => Ok(x.clone()),
            })?;
            Ok(run(&mut there, Some(&lengths))?.0.to_scalar()?)
        };
        let step = 1e-5;
        let wanted = (at(step)? - at(-step)?) / (2. * step);
        let leaves = grads.leaves();
        let (path, _, gradient) = &leaves[moved];
        let gradient = gradient.value().unwrap();
        let found = (gradient * direction(gradient)?)?.sum_all()?.to_scalar::<f64>()?;
        assert!((found - wanted).abs() < 1e-8 * wanted.abs().max(1.), "{path}: {found} {wanted}");
    }
    Ok(())
}

#[test]
fn lstm() -> Result<()> {
    check(|din, features| LSTMCell::new(din, features).bias_init(normal(1.)))
}

#[test]
fn gru() -> Result<()> {
    check(|din, features| GRUCell::new(din, features).bias_init(normal(1.)))
}

#[test]
fn mgu() -> Result<()> {
    check(|din, features| MGUCell::new(din, features).activation_bias_init(normal(1.)))
}

#[test]
fn mgu_without_reset() -> Result<()> {
    check(|din, features| MGUCell::new(din, features).reset_gate(false).activation_bias_init(normal(1.)))
}

#[test]
fn simple() -> Result<()> {
    check(|din, features| SimpleCell::new(din, features).bias_init(normal(1.)))
}

#[test]
fn simple_with_residual() -> Result<()> {
    check(|din, features| SimpleCell::new(din, features).residual(true).bias_init(normal(1.)))
}

/// Without tracking the outputs are the same, and if the loss depends on one output only, the gradients are right.
#[test]
fn untracked_and_single_outputs() -> Result<()> {
    let sizes = (&[3][..], 5, 3, 4);
    let mut inputs = inputs(LSTMCell::new(3, 4), sizes, WAYS[0])?;
    inputs = inputs.into_dtype(DType::F64)?;
    let (_, tracked) =
        inputs.clone().value_and_grad_aux(Parameter, |inputs| run(inputs, None)).map(|x| x.0)?;
    for (tracked, untracked) in tracked.iter().zip(run(&mut inputs, None)?.1) {
        assert_eq!(numbers(tracked)?, numbers(&untracked)?);
    }
    for output in 0..3 {
        let one = |inputs: &Inputs<LSTMCell>| -> Result<Vec<Vec<f64>>> {
            let (_, grads) = inputs
                .clone()
                .value_and_grad(Parameter, |inputs| Ok(run(inputs, None)?.1[output].sqr()?.sum_all()?))?;
            grads.leaves().into_iter().filter_map(|(.., leaf)| leaf.value()).map(numbers).collect()
        };
        for (found, wanted) in
            one(&inputs)?.iter().flatten().zip(with_reference(|| one(&inputs))?.iter().flatten())
        {
            assert!((found - wanted).abs() < 1e-12, "{output}: {found} {wanted}");
        }
    }
    Ok(())
}

/// Without sequences, gradients are zeros. The reference composition fails then, in Candle.
#[test]
fn no_sequences() -> Result<()> {
    let empty = (&[0][..], 2, 3, 4);
    let found = [
        all(&inputs(LSTMCell::new(3, 4), empty, WAYS[0])?, None)?,
        all(&inputs(GRUCell::new(3, 4), empty, WAYS[5])?, None)?,
    ];
    assert_eq!(found.each_ref().map(|all| all.iter().map(Vec::len).max()), [Some(16); 2]);
    assert!(found.iter().flatten().flatten().all(|x| *x == 0.));
    Ok(())
}

/// Cells with other functions or with a `dtype` run step by step.
#[test]
fn cells_without_the_operation() -> Result<()> {
    let custom = LSTMCell::new(3, 4).gate_fn(|x| Ok(x.clone()));
    assert!(custom.fused().is_none());
    assert!(LSTMCell::new(3, 4).gate_fn(crate::sigmoid).fused().is_some());
    let x = Tensor::ones((2, 3, 3), DType::F32, &Device::Cpu)?;
    let mut rnn = RNN::new(GRUCell::new(3, 4).dtype(DType::BF16)).init(0, &Device::Cpu)?;
    let (found, wanted) = (rnn.call(&x)?, with_reference(|| rnn.call(&x))?);
    assert_eq!(found.dtype(), wanted.dtype());
    for (a, b) in numbers(&found)?.iter().zip(numbers(&wanted)?) {
        assert!((a - b).abs() < 3e-2, "{a} {b}");
    }
    Ok(())
}
