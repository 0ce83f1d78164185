//! Averages of powers of updates, by which transformations over whole trees keep their state.

use candle_core::{D, Tensor};
use treex_core::{Result, Tree};

use super::scale;
use crate::losses::math::row_max;
use crate::numerics::wide;

/// `(1 - decay) * updates^order + decay * moments`, computed in f32 at least, in the element types of `moments`.
///
/// # Errors
/// If the trees differ in structure or shapes.
pub fn update_moment<T: Tree>(updates: &T, moments: &T, decay: f64, order: i32) -> Result<T> {
    combined(moments, updates, |moment, update| {
        let power = match order {
            1 => update.clone(),
            2 => update.sqr()?,
            _ => update.powf(f64::from(order))?,
        };
        Ok(((power * (1. - decay))? + (moment * decay)?)?)
    })
}

/// `max(|updates| + eps, decay * moments)`, computed in f32 at least, in the element types of `moments`. NaN if one of
/// the two is.
///
/// # Errors
/// As [`update_moment`].
pub fn update_infinity_moment<T: Tree>(updates: &T, moments: &T, decay: f64, eps: f64) -> Result<T> {
    combined(moments, updates, |moment, update| {
        let both = [(update.abs()? + eps)?, (moment * decay)?];
        row_max(&Tensor::stack(&both, D::Minus1)?)
    })
}

/// `moments / (1 - decay^count)`: corrects the bias of an average that started at zero, after `count` steps.
///
/// # Errors
/// If a leaf does not hold floats.
pub fn bias_correction<T: Tree>(moments: &T, decay: f64, count: u64) -> Result<T> {
    scale(1. / crate::numerics::bias_correction(decay, count), moments)
}

/// `f` of each moment and its update, in the compute type of the moment. A moment without an update stays.
fn combined<T: Tree>(moments: &T, updates: &T, f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<T> {
    moments.zip_map(updates, |moment, update| {
        let dtype = wide(moment.dtype());
        Ok(f(&moment.to_dtype(dtype)?, &update.to_dtype(dtype)?)?.to_dtype(moment.dtype())?)
    })
}
