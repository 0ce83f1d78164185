//! The gated linear unit.

use candle_core::Tensor;
use candle_core::shape::Dim;
use treex_core::{Error, Result};

use super::sigmoid::sigmoid;
use crate::dtype::as_float;

/// Gated linear unit: one half of `x` along `dim`, times the sigmoid of the other.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 2., 0., 1.]], &Device::Cpu)?;
/// let y = treex_nn::glu(&x, 1)?;
/// assert_eq!(y.dims(), [1, 2]);
/// assert_eq!(format!("{:.4?}", y.to_vec2::<f32>()?), "[[0.5000, 1.4621]]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the size along `dim` is odd.
pub fn glu(x: &Tensor, dim: impl Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "glu")?;
    let size = x.dim(dim)?;
    if size % 2 == 1 {
        return Err(Error::shape("`glu` cannot halve its input")
            .expected(format!("an even size of dimension {dim}"))
            .found(format!("{:?}", x.dims())));
    }
    let x = &as_float(x)?;
    let (values, gates) = (x.narrow(dim, 0, size / 2)?, x.narrow(dim, size / 2, size / 2)?);
    Ok((values * sigmoid(&gates)?)?)
}
