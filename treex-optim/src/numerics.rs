//! What transformations share beside the engine: corrections, norms, checks of options.

use candle_core::{DType, Tensor};
use treex_core::{Error, Leaves, Result, prelude::*};

/// The element type to compute in: f64 for f64, f32 for everything narrower.
#[must_use]
pub fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Zeros beside each parameter, in the type to compute in.
///
/// # Errors
/// If Candle cannot allocate.
pub fn zeros_like(params: &Leaves) -> Result<Leaves> {
    params.apply(|param| Ok(Tensor::zeros(param.shape(), wide(param.dtype()), param.device())?))
}

/// By what an average that started at zero is too small after `steps` steps: `1 - decay^steps`.
#[must_use]
pub fn bias_correction(decay: f64, steps: u64) -> f64 {
    1. - decay.powf(steps as f64)
}

/// How many elements are summed in the type to compute in, before the sums themselves are summed in f64.
const CHUNK: usize = 4096;

/// The Euclidean norm of all leaves together, 0 for a tree without values.
///
/// Squares are summed in f32 over chunks (in f64 for f64) and the chunks in f64, so that large trees of small
/// numbers lose nothing. One transfer to the host, whatever the number of leaves.
///
/// # Errors
/// If a leaf does not hold floats.
pub fn global_norm(tree: &impl Tree) -> Result<f64> {
    let leaves = tree.flatten();
    let Some(first) = leaves.tensors().next() else { return Ok(0.) };
    let dtype = if leaves.tensors().any(|leaf| leaf.dtype() == DType::F64) { DType::F64 } else { DType::F32 };
    let mut sums = Vec::new();
    for leaf in leaves.tensors() {
        let squares = leaf.detach().flatten_all()?.to_dtype(dtype)?.sqr()?;
        let whole = squares.elem_count() / CHUNK;
        let rest = squares.narrow(0, whole * CHUNK, squares.elem_count() - whole * CHUNK)?;
        sums.push(squares.narrow(0, 0, whole * CHUNK)?.reshape((whole, CHUNK))?.sum(1)?);
        sums.push(rest.sum_keepdim(0)?);
    }
    let sums =
        sums.iter().map(|sum| sum.to_device(first.device())).collect::<candle_core::Result<Vec<_>>>()?;
    let sums = Tensor::cat(&sums, 0)?.to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(sums.to_vec1::<f64>()?.iter().sum::<f64>().sqrt())
}

/// An error unless `value` is in `[0, 1)`.
pub(crate) fn check_decay(name: &str, value: f64) -> Result<()> {
    if (0. ..1.).contains(&value) { Ok(()) } else { Err(outside(name, "a number in [0, 1)", value)) }
}

/// An error unless `value` is a finite number that is not negative.
pub(crate) fn check_not_negative(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0. {
        Ok(())
    } else {
        Err(outside(name, "a finite number from 0 on", value))
    }
}

/// An error unless `value` is a finite number.
pub(crate) fn check_finite(name: &str, value: f64) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(outside(name, "a finite number", value)) }
}

fn outside(name: &str, expected: &str, found: f64) -> Error {
    Error::argument(format!("`{name}` is outside of what it may be")).expected(expected).found(found)
}
