//! Steps of parameters by hand: Optax's `apply_updates` and averages of parameters.

use treex_core::{Error, Result, Tree};

use crate::numerics::wide;
use crate::tree::add_scale;

/// `params + updates`, computed in f32 at least, in the element types of `params`. An [`Optimizer`](crate::Optimizer)
/// does it in place.
///
/// # Errors
/// If the trees differ in structure or shapes.
pub fn apply_updates<T: Tree>(params: &T, updates: &T) -> Result<T> {
    add_scale(params, 1., updates)
}

/// `step_size * new + (1 - step_size) * old`: a moving average of parameters (Polyak and Juditsky, 1992), such as those
/// of a target network. In the element types of `old`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter};
/// let leaf = |x: f32| Leaf::<Parameter>::new(Tensor::new(x, &Device::Cpu)?);
/// let target = treex_optim::incremental_update(&leaf(8.)?, &leaf(4.)?, 0.25)?;
/// assert_eq!(target.get()?.to_scalar::<f32>()?, 5.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the trees differ in structure or shapes.
pub fn incremental_update<T: Tree>(new: &T, old: &T, step_size: f64) -> Result<T> {
    old.zip_map(new, |old, new| {
        let dtype = wide(old.dtype());
        let sum = ((new.to_dtype(dtype)? * step_size)? + (old.to_dtype(dtype)? * (1. - step_size))?)?;
        Ok(sum.to_dtype(old.dtype())?)
    })
}

/// `new` if `steps` is a multiple of `update_period`, else `old`.
///
/// # Errors
/// If `update_period` is 0.
pub fn periodic_update<T: Tree>(new: &T, old: &T, steps: u64, update_period: u64) -> Result<T> {
    if update_period == 0 {
        return Err(Error::argument("`update_period` of `periodic_update` is 0").expected("1 or more"));
    }
    Ok(if steps.is_multiple_of(update_period) { new.clone() } else { old.clone() })
}
