//! Shared by transformations: bias corrections, norms, checks of options.

use std::fmt;

use candle_core::{DType, Device, Tensor};
use treex_core::{Error, ErrorKind, Leaves, Result, prelude::*, transfers};

use crate::constant::check_constant;
use crate::engine::Updates;
use crate::transfer;

/// The compute type for an element type: f64 for f64, f32 for everything narrower.
#[must_use]
pub fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Zeros of each parameter's shape, in the compute type.
///
/// # Errors
/// If allocation fails.
pub fn zeros_like(params: &Leaves) -> Result<Leaves> {
    params.apply(|param| Ok(Tensor::zeros(param.shape(), wide(param.dtype()), param.device())?))
}

/// [`zeros_like`] in another type, if one is given: an option such as `mu_dtype`.
pub(crate) fn zeros_in(params: &Leaves, dtype: Option<DType>) -> Result<Leaves> {
    match dtype {
        None => zeros_like(params),
        Some(dtype) => params.apply(|param| Ok(Tensor::zeros(param.shape(), dtype, param.device())?)),
    }
}

/// One value everywhere, otherwise as [`zeros_like`].
pub(crate) fn full_like(params: &Leaves, value: f64) -> Result<Leaves> {
    zeros_like(params)?.apply(|zeros| Ok(zeros.affine(1., value)?))
}

/// A scalar for each parameter, in the compute type, on the CPU.
pub(crate) fn scalars_like(params: &Leaves, mut value: impl FnMut(&Tensor) -> Result<f64>) -> Result<Leaves> {
    params.apply(|param| Ok(Tensor::new(value(param)?, &Device::Cpu)?.to_dtype(wide(param.dtype()))?))
}

/// The number of elements at each position.
pub(crate) fn sizes(params: &Leaves) -> Vec<f64> {
    (0..params.len()).map(|index| params.get(index).map_or(0, Tensor::elem_count) as f64).collect()
}

/// The leaf of a state at a position.
pub(crate) fn leaf_at(state: &Leaves, index: usize) -> Result<&Tensor> {
    state.get(index).ok_or_else(|| {
        Error::new(ErrorKind::FilteredOut, "the state has no leaf for a parameter that has a gradient")
            .at(state.path(index))
            .remedy("`init` with the model that is trained, and update with the whole state")
    })
}

/// The scalar of a state at a position.
pub(crate) fn scalar(state: &Leaves, index: usize) -> Result<f64> {
    transfer::to_f64(leaf_at(state, index)?)
}

/// The scalars of a state at the positions of updates; 0 elsewhere.
pub(crate) fn scalars(state: &Leaves, updates: &Updates<'_>) -> Result<Vec<f64>> {
    let at = |index: usize| if updates.has(index) { scalar(state, index) } else { Ok(0.) };
    (0..updates.len()).map(at).collect()
}

/// Writes into a state, in the state's type.
pub(crate) fn store_at(state: &mut Leaves, index: usize, value: &Tensor) -> Result<()> {
    let dtype = leaf_at(state, index)?.dtype();
    match state.handles_mut().get_mut(index) {
        Some(handle) => handle.write(&transfer::cast(value, dtype)?),
        None => Ok(()),
    }
}

/// Writes a scalar into a state.
pub(crate) fn store_scalar_at(state: &mut Leaves, index: usize, value: f64) -> Result<()> {
    store_at(state, index, &Tensor::new(value, &Device::Cpu)?)
}

/// Applies `f` to the updates, with their positions. Empty tensors are unchanged.
pub(crate) fn each_update(
    updates: &Leaves,
    mut f: impl FnMut(usize, &Tensor) -> Result<Tensor>,
) -> Result<Leaves> {
    updates.rebuild(|index| match updates.get(index) {
        Some(u) if u.elem_count() > 0 => f(index, u).map(Some),
        u => Ok(u.cloned()),
    })
}

/// The larger of `value` and `least`; NaN if `value` is NaN.
pub(crate) fn at_least(value: f64, least: f64) -> f64 {
    if value < least { least } else { value }
}

/// The bias correction of an average that started at zero: `1 - decay^steps`.
#[must_use]
pub fn bias_correction(decay: f64, steps: u64) -> f64 {
    1. - decay.powf(steps as f64)
}

/// How many elements are summed in the compute type, before the sums themselves are summed in f64.
const CHUNK: usize = 4096;

/// The Euclidean norm of all leaves as one vector, a number to look at; 0 for a tree without values. For a penalty, whose
/// gradient is wanted, see [`tree::norm`](crate::tree::norm).
///
/// Squares are summed in f32 over chunks (in f64 for f64) and the chunks in f64, so that large trees of small
/// numbers lose no precision. One read-back, whatever the number of leaves.
///
/// # Errors
/// If a leaf does not hold floats, or is being differentiated.
pub fn global_norm(tree: &impl Tree) -> Result<f64> {
    let leaves = tree.flatten();
    leaves.tensors().try_for_each(|leaf| check_constant("global_norm", leaf))?;
    let instead = "take `tree::norm`, which stays on the device";
    let sums = transfers::transfer(&squares_of_all(&leaves)?, &Device::Cpu, instead)?;
    Ok(sums.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().sum::<f64>().sqrt())
}

/// Sums whose sum is that of the squares of all elements, on the device of the first leaf; at least one.
fn squares_of_all(leaves: &Leaves) -> Result<Tensor> {
    let dtype = if leaves.tensors().any(|leaf| leaf.dtype() == DType::F64) { DType::F64 } else { DType::F32 };
    let mut sums: Vec<Tensor> = Vec::new();
    for leaf in leaves.tensors().filter(|leaf| leaf.elem_count() > 0) {
        for sum in chunk_sums(&leaf.detach().to_dtype(dtype)?.sqr()?)? {
            sums.push(match sums.first() {
                Some(first) => transfer::to_device_of(&sum, first)?,
                None => sum,
            });
        }
    }
    if sums.is_empty() {
        sums.push(Tensor::zeros(1, dtype, &Device::Cpu)?);
    }
    Ok(Tensor::cat(&sums, 0)?)
}

/// The sum of each chunk of elements, then that of the rest, as vectors; none that is empty.
pub(crate) fn chunk_sums(terms: &Tensor) -> Result<Vec<Tensor>> {
    let terms = terms.flatten_all()?;
    let chunks = terms.elem_count() / CHUNK;
    let (whole, rest) = (chunks * CHUNK, terms.elem_count() % CHUNK);
    let mut sums = Vec::with_capacity(2);
    if chunks > 0 {
        sums.push(terms.narrow(0, 0, whole)?.reshape((chunks, CHUNK))?.sum(1)?);
    }
    if rest > 0 {
        sums.push(terms.narrow(0, whole, rest)?.sum_keepdim(0)?);
    }
    Ok(sums)
}

/// The square of the Euclidean norm of one leaf, in the compute type.
pub(crate) fn squared_norm(leaf: &Tensor) -> Result<f64> {
    let sums = chunk_sums(&leaf.detach().to_dtype(wide(leaf.dtype()))?.sqr()?)?;
    if sums.is_empty() {
        return Ok(0.);
    }
    Ok(transfer::to_vec_f64(&Tensor::cat(&sums, 0)?)?.iter().sum())
}

/// An error unless `value` is in `[0, 1)`.
pub(crate) fn check_decay(name: &str, value: f64) -> Result<()> {
    if (0. ..1.).contains(&value) { Ok(()) } else { Err(out_of_range(name, "a number in [0, 1)", value)) }
}

/// An error unless `value` is a finite number that is not negative.
pub(crate) fn check_not_negative(name: &str, value: f64) -> Result<()> {
    check_at_least(name, value, 0.)
}

/// An error unless `value` is a finite number.
pub(crate) fn check_finite(name: &str, value: f64) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(out_of_range(name, "a finite number", value)) }
}

/// An error unless `value` is a finite number above 0.
pub(crate) fn check_positive(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0. {
        Ok(())
    } else {
        Err(out_of_range(name, "a finite number above 0", value))
    }
}

/// An error unless `value` is a finite number, and `least` or more.
pub(crate) fn check_at_least(name: &str, value: f64, least: f64) -> Result<()> {
    if value.is_finite() && value >= least {
        Ok(())
    } else {
        Err(out_of_range(name, &format!("a finite number, at least {least}"), value))
    }
}

/// An error unless a state can be kept in `dtype`.
pub(crate) fn check_float(name: &str, dtype: Option<DType>) -> Result<()> {
    match dtype {
        Some(dtype) if !matches!(dtype, DType::F64 | DType::F32 | DType::BF16 | DType::F16) => {
            Err(out_of_range(name, "`f64`, `f32`, `bf16` or `f16`", dtype.as_str()))
        }
        _ => Ok(()),
    }
}

fn out_of_range(name: &str, expected: &str, found: impl fmt::Display) -> Error {
    Error::argument(format!("`{name}` is out of range")).expected(expected).found(found)
}
