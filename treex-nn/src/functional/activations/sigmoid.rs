//! The sigmoid, and activations made of it.

use candle_core::Tensor;
use treex_core::Result;

use crate::dtype::as_float;

use super::elementary::{expm1, log1p};
use crate::ops::derivative::with_derivative;
use treex_kernels::elementwise::Elementwise::{Sigmoid, Silu, Softplus, Tanh};

use crate::ops::elementwise::map;

/// `1 / (1 + exp(-x))`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::sigmoid(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.2689, 0.5000, 0.8808]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    map(Sigmoid, x, |x| Ok(candle_nn::ops::sigmoid(x)?))
}

/// `log(sigmoid(x))`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::log_sigmoid(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-1.3133, -0.6931, -0.1269]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    let x = &as_float(x)?;
    Ok(softplus(&x.neg()?)?.neg()?)
}

/// `x sigmoid(x)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::silu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.2689, 0.0000, 1.7616]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    map(Silu, x, |x| Ok((x * sigmoid(x)?)?))
}

pub use silu as swish;

/// `log(1 + exp(x))`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::softplus(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.3133, 0.6931, 2.1269]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    let value = |x: &Tensor| x.maximum(0f64)? + log1p(&x.abs()?.neg()?.exp()?)?;
    map(Softplus, x, |x| Ok(with_derivative(x, value, candle_nn::ops::sigmoid)?))
}

/// `log(1 - exp(-x))`, for `x >= 0`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[0.5f32, 1., 2.], &Device::Cpu)?;
/// let y = treex_nn::log1mexp(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.9328, -0.4587, -0.1454]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn log1mexp(x: &Tensor) -> Result<Tensor> {
    let x = &as_float(x)?;
    // Each formula is accurate on one side (Mächler, 2012).
    let value = |x: &Tensor| {
        let near = expm1(&x.neg()?)?.neg()?.log()?;
        let far = log1p(&x.neg()?.exp()?.neg()?)?;
        x.lt(std::f64::consts::LN_2)?.where_cond(&near, &far)
    };
    Ok(with_derivative(x, value, |x| expm1(x)?.recip())?)
}

/// `x tanh(softplus(x))`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::mish(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.3034, 0.0000, 1.9440]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn mish(x: &Tensor) -> Result<Tensor> {
    let x = &as_float(x)?;
    Ok((x * softplus(x)?.tanh()?)?)
}

/// The hyperbolic tangent.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::tanh(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.7616, 0.0000, 0.9640]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    map(Tanh, x, |x| Ok(x.tanh()?))
}
