//! Losses over real numbers.

use candle_core::Tensor;
use treex_core::Result;

use super::aligned;

/// `(prediction - target)^2`, element by element: any shape, the same for both.
///
/// # Errors
/// If shapes or element types differ, or are not floats.
pub fn squared_error(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    let (prediction, target) = aligned("squared_error", ("predictions", prediction), ("targets", target))?;
    Ok((prediction - target)?.sqr()?)
}

/// Half of [`squared_error`], whose gradient is the difference: `0.5 * (prediction - target)^2`.
///
/// # Errors
/// As [`squared_error`].
pub fn l2_loss(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Ok((squared_error(prediction, target)? * 0.5)?)
}

/// The mean of [`squared_error`] over everything, a scalar.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let prediction = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// let target = Tensor::new(&[1f32, 2., 6.], &Device::Cpu)?;
/// assert_eq!(treex_optim::mse(&prediction, &target)?.to_scalar::<f32>()?, 3.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`squared_error`].
pub fn mse(prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
    Ok(squared_error(prediction, target)?.mean_all()?)
}
