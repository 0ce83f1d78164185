//! A leaky rectifier with a learned slope.

use candle_core::{DType, Tensor};
use treex_core::{Leaf, Parameter, TreeObject, record};

use crate::dtype::as_float;
use crate::initializers::constant;
use crate::ops::broadcast::broadcast;

/// `x` where not negative, `negative_slope x` elsewhere: Flax's `PReLU` (He et al., 2015).
///
/// The slope is cast to the element type of `x`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{PRelu, prelude::*};
///
/// let mut prelu = PRelu::new().init(42, &Device::Cpu)?;
/// assert_eq!(prelu.negative_slope.get()?.rank(), 0);
/// let x = Tensor::new(&[[-100f32, 0., 2.]], &Device::Cpu)?;
/// assert_eq!(prelu.call(&x)?.to_vec2::<f32>()?, [[-1., 0., 2.]]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct PRelu {
    /// A scalar; default: 0.01.
    pub negative_slope: Leaf<Parameter>,
}

impl PRelu {
    /// With one slope for all elements.
    #[must_use]
    pub fn new() -> Self {
        Self { negative_slope: Leaf::param(constant(0.01), (), DType::F32) }
    }

    /// The initial slope; default: 0.01.
    #[must_use]
    pub fn negative_slope_init(self, negative_slope: f64) -> Self {
        Self { negative_slope: self.negative_slope.with_init(constant(negative_slope)) }
    }

    /// The element type of the slope; default: `F32`.
    #[must_use]
    pub fn param_dtype(self, dtype: DType) -> Self {
        Self { negative_slope: self.negative_slope.with_dtype(dtype) }
    }
}

impl Default for PRelu {
    fn default() -> Self {
        Self::new()
    }
}

impl candle_core::Module for PRelu {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = &as_float(x)?;
        let slope = self.negative_slope.infer(())?.to_dtype(x.dtype())?;
        let y = x.ge(0f64)?.where_cond(x, &broadcast(x, &slope, Tensor::broadcast_mul)?)?;
        record(self, x, &y);
        Ok(y)
    }
}
