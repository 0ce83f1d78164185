//! Exponential linear units.

use candle_core::Tensor;
use treex_core::Result;

use super::elementary::expm1;
use treex_kernels::elementwise::Elementwise::Elu;

use crate::ops::elementwise::map;

/// `x` where positive, `alpha (exp(x) - 1)` elsewhere. Flax's default: `alpha` 1.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::elu(&x, 1.)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.6321, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    map(Elu(alpha), x, |x| {
        let positive = x.gt(0f64)?;
        let below = expm1(&positive.where_cond(&x.zeros_like()?, x)?)?;
        Ok(positive.where_cond(x, &(below * alpha)?)?)
    })
}

/// `max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)`. Flax's default: `alpha` 1.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::celu(&x, 1.)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.6321, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn celu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    let below = expm1(&(x.minimum(0f64)? / alpha)?)?;
    Ok((x.maximum(0f64)? + (below * alpha)?)?)
}

/// [`elu`] with the `alpha` and the factor that keep mean 0 and variance 1 (Klambauer et al., 2017).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::selu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-1.1113, 0.0000, 2.1014]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn selu(x: &Tensor) -> Result<Tensor> {
    Ok((elu(x, 1.673_263_242_354_377_2)? * 1.050_700_987_355_480_5)?)
}
