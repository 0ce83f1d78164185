//! Gradients against finite differences.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::random::Key;
use crate::transfers::transfer;
use crate::transform::grad::in_place;
use crate::tree::filter::Filter;
use crate::tree::handle::Handle;
use crate::tree::object::TreeObject;
use crate::tree::path::Path;
use crate::tree::verbs::Tree as _;
use crate::tree::walk::{try_walk_mut, walk};

/// The step of the differences, for values of about 1.
const STEP: f64 = 1e-5;

/// How far a derivative may be from its difference, relative to both.
const TOLERANCE: f64 = 1e-5;

/// The rounding error of a difference, relative to the loss.
const ROUNDING: f64 = 1e-13;

/// Compares the gradient of `f` with central differences in `f64`, along three directions for each selected leaf: finds a
/// wrong gradient in an operation of your own, or in one of Candle's. `f` gets copies of `model` in `f64`, so what it is
/// computed with is `f64` too; it runs twelve times for each leaf.
///
/// Where `f` has a kink (`relu` at 0, equal maxima), a difference across it disagrees with every gradient: try other values.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, check_gradients};
///
/// let leaf = || Leaf::<Parameter>::new(Tensor::new(&[0.3f32, -1.2], &Device::Cpu)?);
/// let model = (leaf()?, leaf()?);
/// check_gradients(&model, Parameter, |(a, b)| Ok((a.get()?.sqr()? * b.get()?.exp()?)?.sum_all()?))?;
/// // The gradient by the second leaf is cut.
/// let cut = check_gradients(&model, Parameter, |(a, b)| Ok((a.get()? * b.get()?.detach())?.sum_all()?));
/// assert!(cut.unwrap_err().to_string().contains("`1`"));
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// The first leaf whose derivative disagrees, with both numbers ([`ErrorKind::Gradient`]); the errors of
/// [`value_and_grad`](crate::value_and_grad).
pub fn check_gradients<T>(model: &T, filter: impl Filter, f: impl Fn(&mut T) -> Result<Tensor>) -> Result<()>
where
    T: TreeObject + Clone,
{
    let model = model.clone().into_dtype(DType::F64)?;
    let ((loss, ()), gradient) = in_place(&mut model.clone(), &filter, |model| Ok((f(model)?, ())))?;
    let rounding = ROUNDING * number(&loss)?.abs().max(1.);
    let mut gradients = Vec::new();
    walk(&gradient, |path, _, leaf| {
        gradients.push(leaf.value().map(|value| (Path::from(path), value.clone())))
    });
    for (at, (path, gradient)) in gradients.into_iter().enumerate().filter_map(|(at, leaf)| Some((at, leaf?)))
    {
        for direction in 0..3 {
            let key = Key::from(0u32).fold_in(at as u32).fold_in(direction);
            let direction = transfer(&key.normal(gradient.shape(), DType::F64)?, gradient.device(), CHECKED)?;
            let moved = |step: f64| -> Result<f64> {
                let mut model = moved(&model, at, &(&direction * step)?)?;
                number(&f(&mut model)?)
            };
            let difference = (moved(STEP)? - moved(-STEP)?) / (2. * STEP);
            let derivative = number(&(&gradient * direction)?.sum_all()?)?;
            let allowed = TOLERANCE * difference.abs().max(derivative.abs()) + rounding / STEP;
            let is_close = (difference - derivative).abs() <= allowed;
            if !is_close {
                return Err(Error::new(ErrorKind::Gradient, "a gradient disagrees with finite differences")
                    .expected(format!("{difference:e} along a direction of this leaf"))
                    .found(format!("{derivative:e}"))
                    .remedy(
                        "look for `detach` between this leaf, or a later one, and the loss (`unreached` lists leaves that are cut \
                         off); replace the operations there one by one; \
                         `docs/candle-gradients.md` lists those of Candle that are wrong",
                    )
                    .at(path.segments()));
            }
        }
    }
    Ok(())
}

/// What to write where this may not transfer.
const CHECKED: &str = "check gradients outside of the step";

/// The one element of a tensor.
fn number(x: &Tensor) -> Result<f64> {
    Ok(transfer(x, &Device::Cpu, CHECKED)?.to_dtype(DType::F64)?.to_scalar()?)
}

/// `model` with `step` added to the leaf at position `at`.
fn moved<T: TreeObject + Clone>(model: &T, at: usize, step: &Tensor) -> Result<T> {
    let (mut model, mut index) = (model.clone(), 0);
    try_walk_mut(&mut model, |_, kind, leaf| {
        if index == at {
            leaf.replace(Handle::from_copy(&(leaf.get(kind)? + step)?)?);
        }
        index += 1;
        Ok(())
    })?;
    Ok(model)
}
