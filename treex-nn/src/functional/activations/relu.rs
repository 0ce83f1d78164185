//! Rectified linear units, and piecewise linear approximations of smooth activations.

use candle_core::Tensor;
use treex_core::Result;

use crate::dtype::as_float;

use treex_kernels::elementwise::Elementwise::{LeakyRelu, Relu, Relu6};

use crate::ops::elementwise::map;

/// `max(x, 0)`, with derivative 0 at 0.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::relu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.0000, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    map(Relu, x, |x| Ok(x.le(0f64)?.where_cond(&x.zeros_like()?, x)?))
}

/// `min(max(x, 0), 6)`, with derivative 0 at 0 and at 6.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::relu6(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.0000, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    map(Relu6, x, |x| Ok(x.ge(6f64)?.where_cond(&(x.ones_like()? * 6.)?, &relu(x)?)?))
}

/// `x` where not negative, `0.01 x` elsewhere.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::leaky_relu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.0100, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn leaky_relu(x: &Tensor) -> Result<Tensor> {
    leaky_relu_with(x, 0.01)
}

/// `x` where not negative, `negative_slope x` elsewhere; [`leaky_relu`] has Flax's default, 0.01.
///
/// # Errors
/// Any error of Candle.
pub fn leaky_relu_with(x: &Tensor, negative_slope: f64) -> Result<Tensor> {
    map(LeakyRelu(negative_slope), x, |x| Ok(x.ge(0f64)?.where_cond(x, &(x * negative_slope)?)?))
}

/// `x`, clipped to [-1, 1], with derivative 1 at both ends.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::hard_tanh(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-1.0000, 0.0000, 1.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn hard_tanh(x: &Tensor) -> Result<Tensor> {
    let x = &as_float(x)?;
    let ones = x.ones_like()?;
    let below = x.lt(-1f64)?.where_cond(&ones.neg()?, x)?;
    Ok(x.gt(1f64)?.where_cond(&ones, &below)?)
}

/// `relu6(x + 3) / 6`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::hard_sigmoid(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.3333, 0.5000, 0.8333]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn hard_sigmoid(x: &Tensor) -> Result<Tensor> {
    let x = &as_float(x)?;
    Ok((relu6(&(x + 3.)?)? / 6.)?)
}

/// `x hard_sigmoid(x)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::hard_silu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.3333, 0.0000, 1.6667]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn hard_silu(x: &Tensor) -> Result<Tensor> {
    let x = &as_float(x)?;
    Ok((x * hard_sigmoid(x)?)?)
}

pub use hard_silu as hard_swish;
