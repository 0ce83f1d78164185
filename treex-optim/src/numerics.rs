//! The arithmetic that transformations share. Each piece stands here once, so that a transformation reads like
//! its paper.
//!
//! Moments, sums and decay are computed in f32 at least: in bf16, 0.999 is 1, and a moment would never decay.

use candle_core::{DType, Tensor};
use treex_core::{Error, ErrorKind, Leaves, Result, prelude::*};

/// The element type to compute in: f64 for f64, f32 for everything narrower.
#[must_use]
pub fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Both in the type to compute in.
fn widened(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    let dtype = if b.dtype() == DType::F64 { DType::F64 } else { wide(a.dtype()) };
    Ok((a.to_dtype(dtype)?, b.to_dtype(dtype)?))
}

/// `a * x + b * y`.
///
/// # Errors
/// If the shapes differ.
pub fn weighted_sum(a: f64, x: &Tensor, b: f64, y: &Tensor) -> Result<Tensor> {
    let (x, y) = widened(x, y)?;
    let scaled = |factor: f64, value: Tensor| if factor == 1. { Ok(value) } else { value.affine(factor, 0.) };
    Ok((scaled(a, x)? + scaled(b, y)?)?)
}

/// `factor * g` for each update.
///
/// # Errors
/// If Candle cannot multiply.
pub fn scale(updates: &Leaves, factor: f64) -> Result<Leaves> {
    updates.apply(|g| Ok(g.to_dtype(wide(g.dtype()))?.affine(factor, 0.)?))
}

/// Zeros beside each parameter, in the type to compute in.
///
/// # Errors
/// If Candle cannot allocate.
pub fn zeros_like(params: &Leaves) -> Result<Leaves> {
    params.apply(|param| Ok(Tensor::zeros(param.shape(), wide(param.dtype()), param.device())?))
}

/// `f(update, state)` wherever there is an update.
///
/// # Errors
/// If the state has nothing there, and what `f` reports, with the path.
pub fn with_state(
    updates: &Leaves,
    state: &Leaves,
    f: impl FnMut(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Leaves> {
    for (index, leaf) in updates.iter().enumerate() {
        if updates.get(index).is_some() && state.get(index).is_none() {
            let message = "the state holds nothing for a parameter that has a gradient";
            return Err(Error::new(ErrorKind::FilteredOut, message)
                .at(leaf.segments())
                .remedy("`init` with the model that is trained, and update with the whole state"));
        }
    }
    updates.combine(state, f)
}

/// `decay * moment + (1 - decay) * update^order`, the next exponential moving average of the updates (order 1)
/// or of their squares (order 2).
///
/// # Errors
/// As [`with_state`].
pub fn update_moment(updates: &Leaves, moments: &Leaves, decay: f64, order: u32) -> Result<Leaves> {
    with_state(updates, moments, |update, moment| {
        let update = if order == 2 { update.to_dtype(wide(update.dtype()))?.sqr()? } else { update.clone() };
        weighted_sum(decay, moment, 1. - decay, &update)
    })
}

/// Puts `new` into `state`, in the element types of `state`. Where `new` has nothing, the state stays.
///
/// # Errors
/// If the leaves do not align.
pub fn remember(state: &mut Leaves, new: &Leaves) -> Result<()> {
    let new = state.combine(new, |old, new| Ok(new.to_dtype(old.dtype())?))?;
    Tree::update(state, &new)
}

/// By what an average that started at zero is too small after `steps` steps: `1 - decay^steps`.
#[must_use]
pub fn bias_correction(decay: f64, steps: u64) -> f64 {
    1. - decay.powf(steps as f64)
}

/// The parameter after its update: the sum in the wider of the two types, in the parameter's own.
///
/// # Errors
/// If the shapes differ.
pub fn apply_update(param: &Tensor, update: &Tensor) -> Result<Tensor> {
    Ok(weighted_sum(1., param, 1., update)?.to_dtype(param.dtype())?)
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
