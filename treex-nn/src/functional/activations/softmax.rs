//! Softmax and log-softmax, and the helpers that functions like them share: maxima and masks.

use candle_core::Tensor;
use candle_core::shape::Dims;
use treex_core::{Error, Result};

use crate::dtype::{common_dtype, wide_dtype};
use crate::ops::softmax as kernel;

/// `exp(x) / Σ exp(x)` along a dimension, or over several.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let y = treex_nn::softmax(&x, 1)?;
/// assert_eq!(format!("{:.4?}", y.to_vec2::<f32>()?), "[[0.0900, 0.2447, 0.6652], [0.3333, 0.3333, 0.3333]]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn softmax(x: &Tensor, dims: impl Dims) -> Result<Tensor> {
    let dims = dims.to_indexes(x.shape(), "softmax")?;
    if let Some(y) = kernel::softmax(x, &dims, false)? {
        return Ok(y);
    }
    let all = wide(x)?;
    let powers = all.broadcast_sub(&largest(&all, &dims)?)?.exp()?;
    Ok(powers.broadcast_div(&powers.sum_keepdim(dims)?)?.to_dtype(common_dtype(None, [x]))?)
}

/// [`softmax`] of the elements where `mask` is not 0, and 0 elsewhere. The mask broadcasts to `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let mask = Tensor::new(&[1u8, 1, 0], &Device::Cpu)?;
/// let y = treex_nn::softmax_where(&x, 1, &mask)?;
/// assert_eq!(format!("{:.4?}", y.to_vec2::<f32>()?), "[[0.2689, 0.7311, 0.0000], [0.5000, 0.5000, 0.0000]]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the mask does not fit.
pub fn softmax_where(x: &Tensor, dims: impl Dims, mask: &Tensor) -> Result<Tensor> {
    let dims = dims.to_indexes(x.shape(), "softmax")?;
    let powers = kept("softmax_where", x, &dims, mask)?.exp()?;
    // Where the mask hides all elements, the sum is 0.
    let sum = powers.sum_keepdim(dims)?;
    let sum = sum.eq(0f64)?.where_cond(&sum.ones_like()?, &sum)?;
    Ok(powers.broadcast_div(&sum)?.to_dtype(common_dtype(None, [x]))?)
}

/// `log(softmax(x))` along a dimension, or over several.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let y = treex_nn::log_softmax(&x, 1)?;
/// assert_eq!(format!("{:.4?}", y.to_vec2::<f32>()?), "[[-2.4076, -1.4076, -0.4076], [-1.0986, -1.0986, -1.0986]]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn log_softmax(x: &Tensor, dims: impl Dims) -> Result<Tensor> {
    let dims = dims.to_indexes(x.shape(), "log_softmax")?;
    if let Some(y) = kernel::softmax(x, &dims, true)? {
        return Ok(y);
    }
    let all = wide(x)?;
    let shifted = all.broadcast_sub(&largest(&all, &dims)?)?;
    Ok(shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(dims)?.log()?)?.to_dtype(common_dtype(None, [x]))?)
}

/// [`log_softmax`] of the elements where `mask` is not 0, and negative infinity elsewhere. The mask broadcasts
/// to `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let mask = Tensor::new(&[1u8, 1, 0], &Device::Cpu)?;
/// let y = treex_nn::log_softmax_where(&x, 1, &mask)?;
/// assert_eq!(format!("{:.4?}", y.to_vec2::<f32>()?), "[[-1.3133, -0.3133, -inf], [-0.6931, -0.6931, -inf]]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the mask does not fit.
pub fn log_softmax_where(x: &Tensor, dims: impl Dims, mask: &Tensor) -> Result<Tensor> {
    let dims = dims.to_indexes(x.shape(), "log_softmax")?;
    let kept = kept("log_softmax_where", x, &dims, mask)?;
    let sum = kept.exp()?.sum_keepdim(dims)?;
    let sum = sum.eq(0f64)?.where_cond(&sum.ones_like()?, &sum)?;
    Ok(kept.broadcast_sub(&sum.log()?)?.to_dtype(common_dtype(None, [x]))?)
}

/// `x` in `F32` if it is of half precision: its sums need more digits.
pub(super) fn wide(x: &Tensor) -> candle_core::Result<Tensor> {
    x.to_dtype(wide_dtype(x.dtype()))
}

/// The maximum over `dims`, detached: it only shifts, and the result does not depend on it. Candle's maximum
/// fails on empty tensors.
pub(super) fn largest(x: &Tensor, dims: &[usize]) -> candle_core::Result<Tensor> {
    if x.elem_count() > 0 {
        return dims.iter().try_fold(x.detach(), |x, &dim| x.max_keepdim(dim));
    }
    let mut shape = x.dims().to_vec();
    dims.iter().for_each(|&dim| shape[dim] = 1);
    Tensor::zeros(shape, x.dtype(), x.device())? + f64::NEG_INFINITY
}

/// `x`, with 0 where it is infinite: no shift where all elements are.
pub(super) fn finite(x: &Tensor) -> candle_core::Result<Tensor> {
    x.abs()?.lt(f64::INFINITY)?.where_cond(x, &x.zeros_like()?)
}

/// `part`, the argument `what` of a function of `x`, broadcast to the shape of `x`.
pub(super) fn broadcast(function: &str, what: &str, part: &Tensor, x: &Tensor) -> Result<Tensor> {
    part.broadcast_as(x.shape()).map_err(|_| {
        Error::shape(format!("the {what} of `{function}` does not fit its input"))
            .expected(format!("a shape that broadcasts to {:?}", x.dims()))
            .found(format!("{:?}", part.dims()))
    })
}

/// `x` less its maximum over `dims`, where `mask` is not 0, and negative infinity elsewhere.
fn kept(function: &str, x: &Tensor, dims: &[usize], mask: &Tensor) -> Result<Tensor> {
    let mask = broadcast(function, "mask", &mask.ne(0f64)?, x)?;
    let all = wide(x)?;
    let kept = mask.where_cond(&all, &(all.zeros_like()? + f64::NEG_INFINITY)?)?;
    Ok(kept.broadcast_sub(&finite(&largest(&kept, dims)?)?)?)
}
