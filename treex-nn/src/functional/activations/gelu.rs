//! The Gaussian error linear unit.

use candle_core::Tensor;
use treex_core::Result;

use crate::ops::derivative::with_derivative;
use treex_kernels::elementwise::Elementwise::Gelu;

use crate::ops::elementwise::map;
use crate::ops::normal;

/// `x Φ(x)`, where `Φ` is the normal distribution function, by the formula with `tanh`, which is Flax's default;
/// [`gelu_with`] has the exact one.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::gelu(&x)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.1588, 0.0000, 1.9546]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    gelu_with(x, true)
}

/// `x Φ(x)`, by the formula with `tanh` if `approximate`, otherwise exact, and accurate in both tails.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0., 2.], &Device::Cpu)?;
/// let y = treex_nn::gelu_with(&x, false)?;
/// assert_eq!(format!("{:.4?}", y.to_vec1::<f32>()?), "[-0.1587, 0.0000, 1.9545]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn gelu_with(x: &Tensor, approximate: bool) -> Result<Tensor> {
    if !approximate {
        return Ok(with_derivative(x, normal::gelu, normal::gelu_derivative)?);
    }
    map(Gelu, x, |x| {
        let cube = (x.sqr()? * x)?;
        let inner = ((x + (cube * 0.044715)?)? * (2. / std::f64::consts::PI).sqrt())?;
        Ok((x * ((inner.tanh()? + 1.)? * 0.5)?)?)
    })
}
