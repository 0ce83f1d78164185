//! Logarithms of sums of exponentials.

use candle_core::Tensor;
use candle_core::shape::Dims;
use treex_core::Result;

use super::softmax::{broadcast, finite, largest, wide};
use crate::dtype::common_dtype;

/// `log(Σ exp(x))` over dimensions, which are removed.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let y = treex_nn::logsumexp(&x, 1)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[2.4076, 4.0986]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn logsumexp(x: &Tensor, dims: impl Dims) -> Result<Tensor> {
    Ok(logsumexp_with(x, dims, None, None)?.0)
}

/// `log(|Σ b exp(x)|)` and the sign of the sum, over dimensions, which are removed; only of elements where
/// `mask` is not 0. This is JAX's `return_sign`. Factors and mask broadcast to `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let b = Tensor::new(&[1f32, 1., -1.], &Device::Cpu)?;
/// let (y, sign) = treex_nn::logsumexp_with(&x, 1, Some(&b), None)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[1.3004, 3.0000]");
/// assert_eq!(sign.to_vec1::<f32>()?, [-1., 1.]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If factors or mask do not fit.
pub fn logsumexp_with(
    x: &Tensor,
    dims: impl Dims,
    b: Option<&Tensor>,
    mask: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    let dims = dims.to_indexes(x.shape(), "logsumexp")?;
    let b = b.map(|b| broadcast("logsumexp_with", "factors", &wide(b)?, x)).transpose()?;
    // An element with the factor 0 is left out, even if it is infinite.
    let factors = b.as_ref().map(|b| b.ne(0f64)).transpose()?;
    let mask = mask.map(|mask| broadcast("logsumexp_with", "mask", &mask.ne(0f64)?, x)).transpose()?;
    let kept = match (&factors, &mask) {
        (Some(factors), Some(mask)) => Some((factors * mask)?),
        (factors, mask) => factors.clone().or(mask.clone()),
    };
    let all = wide(x)?;
    let all = match kept {
        Some(kept) => kept.where_cond(&all, &(all.zeros_like()? + f64::NEG_INFINITY)?)?,
        None => all,
    };
    let shift = finite(&largest(&all, &dims)?)?;
    let mut powers = all.broadcast_sub(&shift)?.exp()?;
    if let Some(b) = b {
        powers = (powers * b)?;
    }
    let sum = powers.sum_keepdim(dims.as_slice())?;
    let log = (sum.abs()?.log()? + shift)?;
    let squeezed = |x: Tensor| -> Result<Tensor> {
        let rest: Vec<usize> =
            (0..x.rank()).filter(|dim| !dims.contains(dim)).map(|dim| x.dims()[dim]).collect();
        Ok(x.reshape(rest)?)
    };
    Ok((
        squeezed(log)?.to_dtype(common_dtype(None, [x]))?,
        squeezed(sum.sign()?)?.to_dtype(common_dtype(None, [x]))?,
    ))
}

/// `log(mean(exp(x)))` over dimensions, which are removed.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let y = treex_nn::logmeanexp(&x, 1)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[1.3090, 3.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn logmeanexp(x: &Tensor, dims: impl Dims) -> Result<Tensor> {
    let dims = dims.to_indexes(x.shape(), "logmeanexp")?;
    let count: usize = dims.iter().map(|&dim| x.dims()[dim]).product();
    Ok((logsumexp(x, dims)? - (count as f64).ln())?)
}

/// [`logmeanexp`] of the elements where `mask` is not 0. The mask broadcasts to `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let mask = Tensor::new(&[1u8, 1, 0], &Device::Cpu)?;
/// let y = treex_nn::logmeanexp_where(&x, 1, &mask)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.6201, 3.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the mask does not fit.
pub fn logmeanexp_where(x: &Tensor, dims: impl Dims, mask: &Tensor) -> Result<Tensor> {
    let dims = dims.to_indexes(x.shape(), "logmeanexp")?;
    let counted = broadcast("logmeanexp_where", "mask", &mask.ne(0f64)?, x)?.to_dtype(wide(x)?.dtype())?;
    let count = counted.sum(dims.as_slice())?.log()?.to_dtype(common_dtype(None, [x]))?;
    Ok((logsumexp_with(x, dims, None, Some(mask))?.0 - count)?)
}
