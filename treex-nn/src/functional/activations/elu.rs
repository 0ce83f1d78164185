//! Exponential linear units.

use candle_core::Tensor;
use treex_core::Result;
use treex_core::extrema::{maximum, minimum};

use crate::dtype::as_float;

use super::elementary::expm1;
use treex_kernels::elementwise::Elementwise::Elu;

use crate::ops::elementwise::map;

/// `x` where positive, `exp(x) - 1` elsewhere.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::elu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.6321, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn elu(x: &Tensor) -> Result<Tensor> {
    elu_with(x, 1.)
}

/// `x` where positive, `alpha (exp(x) - 1)` elsewhere; [`elu`] has Flax's default, 1.
///
/// # Errors
/// Any error of Candle.
pub fn elu_with(x: &Tensor, alpha: f64) -> Result<Tensor> {
    map(Elu(alpha), x, |x| {
        let positive = x.gt(0f64)?;
        let below = expm1(&positive.where_cond(&x.zeros_like()?, x)?)?;
        Ok(positive.where_cond(x, &(below * alpha)?)?)
    })
}

/// `max(x, 0) + exp(min(x, 0)) - 1`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::celu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.6321, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn celu(x: &Tensor) -> Result<Tensor> {
    celu_with(x, 1.)
}

/// `max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)`; [`celu`] has Flax's default, 1.
///
/// # Errors
/// Any error of Candle.
pub fn celu_with(x: &Tensor, alpha: f64) -> Result<Tensor> {
    let x = &as_float(x)?;
    let below = expm1(&(minimum(x, 0f64)? / alpha)?)?;
    Ok((maximum(x, 0f64)? + (below * alpha)?)?)
}

/// [`elu_with`] the `alpha` and the factor that keep mean 0 and variance 1 (Klambauer et al., 2017).
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
    Ok((elu_with(x, 1.673_263_242_354_377_2)? * 1.050_700_987_355_480_5)?)
}
