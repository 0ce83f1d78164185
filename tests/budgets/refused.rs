//! A hidden transfer names its place: by the check of treex, and by that of the device.

use treex::ErrorKind;
use treex::nn::{Embed, Rnn, SimpleCell, scatter, scatter_add, segment_sum, take_along_axis};
use treex::optim::{DynamicLossScale, global_norm};
use treex::prelude::*;
use treex_testing::simulator::Simulator;

/// What is not as it should be, in words.
pub(crate) fn faults(simulator: &Simulator) -> Vec<String> {
    let device = match treex::cuda_device(0) {
        Ok(device) => device,
        Err(error) => return vec![error.to_string()],
    };
    let checks = [
        ("read-backs and uploads of treex", by_treex(&device)),
        ("a read-back of Candle", by_the_device(simulator, &device)),
        ("ids that are out of range", out_of_range(&device)),
        ("indexes that are out of range", indexed_out_of_range(&device)),
    ];
    let fault = |(name, check): (&str, Result<Option<String>>)| match check {
        Ok(None) => None,
        Ok(Some(fault)) => Some(format!("{name}: {fault}")),
        Err(error) => Some(format!("{name}: {error}")),
    };
    checks.into_iter().filter_map(fault).collect()
}

/// Each of these transfers; the error says what, where, and what to write.
fn by_treex(device: &Device) -> Result<Option<String>> {
    let x = Tensor::ones((2, 3), DType::F32, device)?;
    let leaf = Leaf::<Parameter>::new(&x)?;
    let hidden: [(Error, [&str; 3]); 3] = [
        (
            refused(|| global_norm(&leaf))?,
            ["a read-back of 4 bytes", "by treex-optim/src/numerics.rs:", "`tree::norm`"],
        ),
        (
            refused(|| DynamicLossScale::new()?.unscale(&leaf))?,
            ["a read-back of 4 bytes", "by treex-optim/src/engine/reference.rs:", "numbers on the CPU"],
        ),
        (
            refused(|| leaf.clone().into_device(&Device::Cpu))?,
            ["a read-back of 24 bytes", "by treex-core/src/tree/handle.rs:", "outside of the step"],
        ),
    ];
    for (error, parts) in hidden {
        let text = error.to_string();
        if error.kind() != ErrorKind::Transfer || !parts.iter().all(|part| text.contains(part)) {
            return Ok(Some(format!("expected an error with {parts:?}, found {text}")));
        }
    }
    Ok(None)
}

/// The error of a function that transfers.
fn refused<T>(f: impl FnOnce() -> Result<T>) -> Result<Error> {
    match treex::no_transfers(f) {
        Ok(_) => Err(Error::argument("a transfer was not refused")),
        Err(error) => Ok(error),
    }
}

/// Candle's own read-back, which treex's check does not see.
fn by_the_device(simulator: &Simulator, device: &Device) -> Result<Option<String>> {
    let x = Tensor::ones((), DType::F32, device)?;
    Ok(match treex::no_transfers(|| simulator.refusing_transfers(|| x.to_scalar::<f32>())) {
        Err(error) if error.to_string().contains("CUDA_ERROR_NOT_PERMITTED") => {
            let after = x.to_scalar::<f32>()?;
            (after != 1.).then(|| format!("afterwards the scalar is {after}"))
        }
        other => Some(format!("expected the driver's error, found {other:?}")),
    })
}

/// Ids and labels are not read to check them: one that is out of range gives NaN in its row, and no other.
fn out_of_range(device: &Device) -> Result<Option<String>> {
    let mut embed = Embed::new(3, 2).embedding_init(treex::nn::initializers::ones).init(0, device)?;
    let rows = |ids: Tensor| -> Result<Vec<f32>> { Ok(embed.call(&ids)?.sum(1)?.to_vec1()?) };
    let mut rows = rows;
    let signed = rows(Tensor::new(&[0i64, -1, 2, 3, -4, i64::MAX], device)?)?;
    let unsigned = rows(Tensor::new(&[2u32, 3, u32::MAX], device)?)?;
    let logits = Tensor::zeros((3, 2), DType::F32, device)?;
    let labels = Tensor::new(&[1u32, 2, u32::MAX], device)?;
    let losses =
        treex::optim::softmax_cross_entropy_with_integer_labels(&logits, &labels)?.to_vec1::<f32>()?;
    let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
    let error = treex::nn::Linear::new(3, 2).init(0, device)?.call(&x).map(drop);
    if !error.is_err_and(|error| error.to_string().contains("different devices")) {
        return Ok(Some("a batch on the CPU for a model on the device is not refused in words".into()));
    }
    if let Some(fault) = gradients_out_of_range(device)? {
        return Ok(Some(fault));
    }
    let is_nan = |numbers: &[f32]| numbers.iter().map(|x| x.is_nan()).collect::<Vec<_>>();
    let found = [is_nan(&signed), is_nan(&unsigned), is_nan(&losses)];
    let expected =
        [vec![false, false, false, true, true, true], vec![false, true, true], vec![false, true, true]];
    Ok((found != expected)
        .then(|| format!("expected NaN at {expected:?}, found {signed:?} {unsigned:?} {losses:?}")))
}

/// As `jax.grad` of JAX 0.10.2: what is out of range selects nothing, so that nothing is trained in its place. A sequence whose
/// length is out of range has no outputs.
fn gradients_out_of_range(device: &Device) -> Result<Option<String>> {
    let mut embed = Embed::new(3, 1).init(0, device)?;
    let ids = Tensor::new(&[0u32, 3], device)?;
    let (_, rows) = embed.value_and_grad(Parameter, |embed| Ok(embed.call(&ids)?.sum_all()?))?;
    let mut logits = Leaf::<Parameter>::new(Tensor::zeros((2, 4), DType::F32, device)?)?;
    let labels = Tensor::new(&[1u32, 4], device)?;
    let (_, scores) = logits.value_and_grad(Parameter, |logits| {
        Ok(treex::optim::softmax_cross_entropy_with_integer_labels(&logits.get()?, &labels)?.sum_all()?)
    })?;
    let mut rnn = Rnn::new(SimpleCell::new(1, 1)).init(0, device)?;
    let lengths = Tensor::new(&[2u32, 9], device)?;
    let (_, outputs) = rnn.call_with(&Tensor::ones((2, 3, 1), DType::F32, device)?, None, Some(&lengths))?;
    let numbers = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
    let [rows, scores] = [numbers(&numbers_of(&rows)?)?, numbers(&scores.get()?)?];
    let has_outputs: Vec<_> = numbers(&outputs)?.iter().map(|x| !x.is_nan()).collect();
    let is_right = rows == [1., 0., 0.]
        && scores == [0.25, -0.75, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
        && has_outputs == [true, true, true, false, false, false];
    Ok((!is_right).then(|| format!("gradients of what is out of range: {rows:?} {scores:?} {has_outputs:?}")))
}

/// What is read at an index that is out of range is NaN, and all of what is written to.
fn indexed_out_of_range(device: &Device) -> Result<Option<String>> {
    let x = Tensor::new(&[[1f32, 2., 3.]], device)?;
    let (right, wrong, twice) =
        (indexes(&[2, 0], device)?, indexes(&[2, 3], device)?, indexes(&[1, 1], device)?);
    let values = Tensor::new(&[[10f32, 20.]], device)?;
    let column = Tensor::new(&[5f32, 7.], device)?;
    let numbers = |x: Tensor| x.flatten_all()?.to_vec1::<f32>();
    let found = [
        numbers(take_along_axis(&x, &right, 1)?)?,
        numbers(take_along_axis(&x, &wrong, 1)?)?,
        numbers(scatter_add(&x, &right, &values, 1)?)?,
        numbers(scatter_add(&x, &wrong, &values, 1)?)?,
        numbers(scatter(&x, &right, &values, 1)?)?,
        numbers(scatter(&x, &wrong, &values, 1)?)?,
        numbers(scatter(&x, &twice, &values, 1)?)?,
        numbers(segment_sum(&column, &right.squeeze(0)?, 3)?)?,
        numbers(segment_sum(&column, &wrong.squeeze(0)?, 3)?)?,
    ];
    let nan = f32::NAN;
    let expected: [&[f32]; 9] = [
        &[3., 1.],
        &[3., nan],
        &[21., 2., 13.],
        &[nan; 3],
        &[20., 2., 10.],
        &[nan; 3],
        &[nan; 3],
        &[7., 0., 5.],
        &[nan; 3],
    ];
    let same = |a: &f32, b: &f32| a == b || a.is_nan() && b.is_nan();
    let is_right = found.iter().zip(expected).all(|(found, expected)| {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| same(a, b))
    });
    Ok((!is_right).then(|| format!("expected {expected:?}, found {found:?}")))
}

fn indexes(numbers: &[u32], device: &Device) -> Result<Tensor> {
    Ok(Tensor::new(numbers, device)?.unsqueeze(0)?)
}

/// The one tensor of a tree.
fn numbers_of(tree: &impl Tree) -> Result<Tensor> {
    tree.flatten().tensors().next().cloned().ok_or_else(|| Error::argument("a tree without leaves"))
}
