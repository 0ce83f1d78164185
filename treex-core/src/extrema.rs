//! Maxima and minima that keep NaN on every device: Candle's kernels for CUDA give the other number in `F32` and `F64`.

use candle_core::scalar::TensorOrScalar;
use candle_core::{DType, Result, Tensor};

/// The larger of `x` and `y`, element by element, and NaN where `x` is. Two equal numbers share the gradient.
///
/// # Errors
/// Those of Candle.
pub fn maximum(x: &Tensor, y: impl TensorOrScalar) -> Result<Tensor> {
    or_nan(x, x.maximum(y)?)
}

/// The smaller of `x` and `y`, element by element, and NaN where `x` is. Two equal numbers share the gradient.
///
/// # Errors
/// Those of Candle.
pub fn minimum(x: &Tensor, y: impl TensorOrScalar) -> Result<Tensor> {
    or_nan(x, x.minimum(y)?)
}

/// [`minimum`] of two tensors that are broadcast to one shape: NaN where `x` is; a NaN of `y` is not kept everywhere.
///
/// # Errors
/// Those of Candle.
pub fn broadcast_minimum(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let least = x.broadcast_minimum(y)?;
    or_nan(&x.broadcast_as(least.shape())?, least)
}

/// `x` between `min` and `max`, element by element, and NaN where `x` is.
///
/// # Errors
/// Those of Candle.
pub fn clamp(x: &Tensor, min: impl TensorOrScalar, max: impl TensorOrScalar) -> Result<Tensor> {
    or_nan(x, x.clamp(min, max)?)
}

/// `y`, and NaN where `x` is.
fn or_nan(x: &Tensor, y: Tensor) -> Result<Tensor> {
    if x.device().is_cpu() || !matches!(x.dtype(), DType::F32 | DType::F64) {
        return Ok(y);
    }
    x.ne(x)?.where_cond(x, &y)
}
