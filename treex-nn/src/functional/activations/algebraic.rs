//! Activations without exponentials.

use candle_core::Tensor;
use treex_core::Result;
use treex_core::extrema::clamp;

use crate::dtype::as_float;

/// `x`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::identity(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-1.0000, 0.0000, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// None; it returns a `Result` as the other activations do.
pub fn identity(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}

/// `x / (|x| + 1)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::soft_sign(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.5000, 0.0000, 0.6667]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn soft_sign(x: &Tensor) -> Result<Tensor> {
    let x = &as_float(x)?;
    Ok((x / (x.abs()? + 1.)?)?)
}

/// `(x + sqrt(x² + 4)) / 2`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::squareplus(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.6180, 1.0000, 2.4142]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn squareplus(x: &Tensor) -> Result<Tensor> {
    squareplus_with(x, 4.)
}

/// `(x + sqrt(x² + b)) / 2`; [`squareplus`] has JAX's default, 4.
///
/// # Errors
/// Any error of Candle.
pub fn squareplus_with(x: &Tensor, b: f64) -> Result<Tensor> {
    let x = &as_float(x)?;
    Ok(((x + (x.sqr()? + b)?.sqrt()?)? / 2.)?)
}

/// 0 for `x <= -1`, `x` for `x >= 1`, `(x + 1)² / 4` between.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::sparse_plus(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.0000, 0.2500, 2.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn sparse_plus(x: &Tensor) -> Result<Tensor> {
    let x = &as_float(x)?;
    let between = ((x + 1.)?.sqr()? / 4.)?;
    let above = x.ge(1f64)?.where_cond(x, &between)?;
    Ok(x.le(-1f64)?.where_cond(&x.zeros_like()?, &above)?)
}

/// The derivative of [`sparse_plus`]: 0 for `x <= -1`, 1 for `x >= 1`, `(x + 1) / 2` between.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::sparse_sigmoid(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[0.0000, 0.5000, 1.0000]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn sparse_sigmoid(x: &Tensor) -> Result<Tensor> {
    let x = &as_float(x)?;
    Ok((clamp(&(x + 1.)?, 0f64, 2f64)? * 0.5)?)
}
