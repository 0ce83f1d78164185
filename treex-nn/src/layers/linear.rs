//! A linear layer.

use candle_core::{DType, Tensor};
use treex_core::{Error, Leaf, Parameter, Result, TreeObject, record};

use crate::dtype::common_dtype;
use crate::initializers::lecun_normal;
use crate::layers::options::{bias_option, parameter_options};
use crate::ops::linear::linear;

/// `y = x · kernel + bias`, over the last axis: Flax's `Dense`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Linear, prelude::*};
///
/// let mut linear = Linear::new(3, 4).init(42, &Device::Cpu)?;
/// assert_eq!(linear.kernel.get()?.dims(), [3, 4]);
/// assert_eq!(Leaf::get_optional(&linear.bias)?.unwrap().dims(), [4]);
///
/// let x = Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(linear.call(&x)?.dims(), [2, 5, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Linear {
    /// `[din, dout]`; default: `lecun_normal`.
    pub kernel: Leaf<Parameter>,
    /// `[dout]`; default: zeros.
    pub bias: Option<Leaf<Parameter>>,
    dout: usize,
    pub(crate) dtype: Option<DType>,
}

/// Flax's name for [`Linear`].
pub type Dense = Linear;

impl Linear {
    /// A map from `din` to `dout` features.
    #[must_use]
    pub fn new(din: usize, dout: usize) -> Self {
        let linear = Self::lazy(dout);
        Self { kernel: linear.kernel.with_shape((din, dout)), ..linear }
    }

    /// A map to `dout` features, with [lazy](crate#lazy-layers) input features.
    #[must_use]
    pub fn lazy(dout: usize) -> Self {
        let kernel = Leaf::unshaped(lecun_normal(), DType::F32);
        Self { kernel, bias: None, dout, dtype: None }.use_bias(true)
    }

    /// The kernel and the bias, checked against the input.
    pub(crate) fn parameters(&self, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        // A matrix needs no shape, which would be allocated at every call.
        let is_matrix = self.kernel.shape().is_some_and(|shape| shape.rank() == 2);
        let kernel = if is_matrix {
            self.kernel.get()?
        } else {
            self.kernel.infer((x.dims().last().copied().unwrap_or(0), self.dout))?
        };
        let bias = Leaf::get_optional(&self.bias)?;
        let (din, _) = kernel.dims2()?;
        if x.dims().last() == Some(&din) {
            return Ok((kernel, bias));
        }
        let found = x.dims();
        let width = found.last().copied().unwrap_or(1);
        Err(Error::shape("`Linear` got an input of the wrong width")
            .expected(format!("[.., {din}]"))
            .found(format!("{found:?}"))
            .remedy(format!(
                "put the {din} features last, or make the layer with `Linear::new({width}, {})`",
                self.dout
            ))
            .of(self.identity()))
    }

    fn declared(self) -> Self {
        Self { bias: self.bias.map(|bias| bias.with_shape(self.dout)), ..self }
    }
}

bias_option!(Linear);
parameter_options!(Linear { kernel: kernel_init, bias: bias_init });

impl candle_core::Module for Linear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (kernel, bias) = self.parameters(x)?;
        let dtype = common_dtype(self.dtype, [x, &kernel].into_iter().chain(&bias));
        let bias = bias.map(|bias| bias.to_dtype(dtype)).transpose()?;
        let y = linear(&x.to_dtype(dtype)?, &kernel.to_dtype(dtype)?, bias.as_ref(), 1)?;
        record(self, x, &y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{ErrorKind, prelude::*};

    use super::*;
    use crate::initializers::{constant, ones};

    fn input(shape: &[usize], dtype: DType) -> Tensor {
        Tensor::ones(shape, dtype, &Device::Cpu).unwrap()
    }

    #[test]
    fn options_come_in_any_order() -> Result<()> {
        let a = Linear::new(3, 2).kernel_init(ones).bias_init(constant(7.)).param_dtype(DType::F64);
        let b = Linear::new(3, 2).param_dtype(DType::F64).bias_init(constant(7.)).kernel_init(ones);
        for linear in [a, b] {
            let mut linear = linear.init(0, &Device::Cpu)?;
            let y = linear.call(&input(&[1, 3], DType::F64))?;
            assert_eq!(y.to_vec2::<f64>()?, [[10., 10.]]);
        }
        let without = Linear::new(3, 2).use_bias(false).bias_init(ones).init(0, &Device::Cpu)?;
        assert!(without.bias.is_none());
        assert_eq!(without.count(Parameter), 6);
        Ok(())
    }

    #[test]
    fn element_types() -> Result<()> {
        let mut linear = Linear::new(3, 2).init(0, &Device::Cpu)?;
        assert_eq!(linear.call(&input(&[3], DType::BF16))?.dtype(), DType::F32);
        assert_eq!(linear.call(&input(&[3], DType::U8))?.dtype(), DType::F32);
        assert_eq!(linear.call(&input(&[3], DType::F64))?.dtype(), DType::F64);
        assert_eq!(linear.dtype(DType::BF16).call(&input(&[3], DType::F32))?.dtype(), DType::BF16);
        Ok(())
    }

    #[test]
    fn empty_batch() -> Result<()> {
        let mut linear = Linear::new(3, 2).init(0, &Device::Cpu)?;
        assert_eq!(linear.call(&input(&[0, 3], DType::F32))?.dims(), [0, 2]);
        assert_eq!(linear.call(&input(&[4, 0, 3], DType::F32))?.dims(), [4, 0, 2]);
        Ok(())
    }

    #[test]
    fn errors_of_width() -> Result<()> {
        let mut linear = Linear::new(3, 2).init(0, &Device::Cpu)?;
        for (shape, remedy) in [(&[5, 4][..], "Linear::new(4, 2)"), (&[], "Linear::new(1, 2)")] {
            let error = linear.call(&input(shape, DType::F32)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape);
            let text = error.to_string();
            let found =
                format!("`Linear` got an input of the wrong width: expected [.., 3], found {shape:?}");
            assert!(text.starts_with(&found) && text.contains(remedy), "{text}");
        }
        Ok(())
    }
}
