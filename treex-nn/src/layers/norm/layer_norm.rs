//! Layer normalization.

use candle_core::{DType, Shape, Tensor};
use treex_core::{Leaf, Parameter, Result, TreeObject};

use super::extent::as_rows;
use super::features::with_rank_of;
use super::options::{features_option, masked_call, normalization_options};
use crate::axes::Axes;
use crate::functional::normalization::Normalization;
use crate::initializers::{ones, zeros};
use crate::layers::options::parameter_options;

/// `y = (x - mean) / sqrt(var + epsilon) · scale + bias`, for each sample over its features: Flax's `LayerNorm`
/// (Ba et al., 2016).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{LayerNorm, prelude::*};
///
/// let mut norm = LayerNorm::new(3).init(42, &Device::Cpu)?;
/// let x = Tensor::new(&[[1f32, 2., 3.], [4., 4., 4.]], &Device::Cpu)?;
/// assert_eq!(norm.call(&x)?.dims(), [2, 3]);
///
/// let norm = LayerNorm::new((4, 3)).reduction_axes([-2, -1]).feature_axes([-2, -1]);
/// let mut norm = norm.init(42, &Device::Cpu)?;
/// assert_eq!(Leaf::get_optional(&norm.scale)?.unwrap().dims(), [4, 3]);
/// let x = Tensor::ones((2, 4, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(norm.call(&x)?.dims(), [2, 4, 3]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct LayerNorm {
    /// `[*features]`; default: ones.
    pub scale: Option<Leaf<Parameter>>,
    /// `[*features]`; default: zeros.
    pub bias: Option<Leaf<Parameter>>,
    features: Option<Shape>,
    #[tree(skip)]
    reduction_axes: Axes,
    #[tree(skip)]
    feature_axes: Axes,
    #[tree(skip)]
    normalization: Normalization,
    dtype: Option<DType>,
}

impl LayerNorm {
    fn of(features: Option<Shape>) -> Self {
        let norm = Self {
            scale: None,
            bias: None,
            features,
            reduction_axes: (-1).into(),
            feature_axes: (-1).into(),
            normalization: Normalization::new("LayerNorm", 1e-6),
            dtype: None,
        };
        norm.use_scale(true).use_bias(true)
    }

    /// The axes over which mean and variance are taken; default: the last.
    #[must_use]
    pub fn reduction_axes(self, reduction_axes: impl Into<Axes>) -> Self {
        Self { reduction_axes: reduction_axes.into(), ..self }
    }

    /// The axes that scale and bias have; default: the last.
    #[must_use]
    pub fn feature_axes(self, feature_axes: impl Into<Axes>) -> Self {
        Self { feature_axes: feature_axes.into(), ..self }
    }

    fn normalized(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let leaves = [self.scale.as_ref(), self.bias.as_ref()];
        let (axes, features) =
            self.normalization.axes_and_features(x, &self.feature_axes, &self.features, leaves)?;
        let reduced = self.reduction_axes.of("LayerNorm", "reduction_axes", x.dims())?;
        let rows = (as_rows(x, &reduced, &axes, &features), self.normalization.source());
        if let Some(normalized) = self.normalization.fused(x, rows, &features, mask, self.dtype)? {
            return Ok(normalized.y);
        }
        let (mean, var) = self.normalization.mean_and_variance(x, &reduced, mask, self.dtype)?;
        self.normalization.normalize(x, (Some(&mean), &var), &with_rank_of(&features, x, &axes)?, self.dtype)
    }
}

parameter_options!(LayerNorm { scale: scale_init, bias: bias_init });
features_option!(LayerNorm);
normalization_options!(LayerNorm, epsilon "1e-6", use_fast_variance, { scale: use_scale ones, bias: use_bias zeros });
masked_call!(LayerNorm);

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use treex_core::{ErrorKind, Key, prelude::*};

    use super::*;

    fn input(shape: &[usize]) -> Tensor {
        Key::from(0).normal(shape, DType::F32).unwrap()
    }

    #[test]
    fn infers_its_features() -> Result<()> {
        let norm = LayerNorm::lazy().feature_axes([1, -1]).init_with(0, &input(&[2, 3, 4, 5]))?;
        assert_eq!(Leaf::get_optional(&norm.scale)?.unwrap().dims(), [3, 5]);
        let error = norm.clone().call(&input(&[2, 4, 4, 5])).unwrap_err().to_string();
        assert!(error.contains("expected [3, 5] features on axes [1, -1], found [2, 4, 4, 5]"), "{error}");
        Ok(())
    }

    #[test]
    fn options_come_in_any_order() -> Result<()> {
        let norm = LayerNorm::new(3).use_bias(false).bias_init(ones).param_dtype(DType::F64).epsilon(1.);
        let norm = norm.use_scale(false).init(0, &Device::Cpu)?;
        assert_eq!(norm.leaves().len(), 0);
        assert!(norm.clone().call(&input(&[2, 4])).is_err());
        assert_eq!(norm.clone().call(&input(&[2, 3]))?.dtype(), DType::F32);
        Ok(())
    }

    /// Half precision is computed in `F32`, and rounded once.
    #[test]
    fn half_precision() -> Result<()> {
        for dtype in [DType::BF16, DType::F16] {
            let x = (input(&[4, 300]) + 10.)?.to_dtype(dtype)?;
            let norm = LayerNorm::new(300).init(0, &Device::Cpu)?;
            let wide = norm.clone().call(&x)?;
            let half = norm.clone().dtype(dtype).call(&x)?;
            assert_eq!((wide.dtype(), half.dtype()), (DType::F32, dtype));
            // An explicit `dtype` is also that of the statistics, which are in `F32` at least.
            let rounded = wide.to_dtype(dtype)?.to_dtype(DType::F32)?;
            assert_eq!(half.to_dtype(DType::F32)?.to_vec2::<f32>()?, rounded.to_vec2::<f32>()?);
            // Rounded statistics differ by their rounding.
            let coarse =
                norm.dtype(dtype).use_fast_variance(false).force_float32_reductions(false).call(&x)?;
            let difference = (coarse.to_dtype(DType::F32)? - wide)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(difference > 1e-4 && difference < 0.1, "{dtype:?} {difference}");
        }
        Ok(())
    }

    /// The mean of no elements is NaN, as in Flax.
    #[test]
    fn a_mask_that_hides_all() -> Result<()> {
        let norm = LayerNorm::new(3).init(0, &Device::Cpu)?;
        let mask = Tensor::new(&[[0u8, 0, 0], [1, 0, 1]], &Device::Cpu)?;
        let y = norm.call_with(&input(&[2, 3]), &mask)?.to_vec2::<f32>()?;
        assert!(y[0].iter().all(|y| y.is_nan()) && y[1].iter().all(|y| y.is_finite()));
        Ok(())
    }

    #[test]
    fn errors() -> Result<()> {
        let norm = LayerNorm::new(3).init(0, &Device::Cpu)?;
        for shape in [&[4, 2][..], &[]] {
            let error = norm.clone().call(&input(shape)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape);
            let text = format!(
                "`LayerNorm` got an input of the wrong shape: expected 3 features on axis -1, found {shape:?}"
            );
            assert!(error.to_string().starts_with(&text), "{error}");
        }
        let error = norm.clone().reduction_axes([0, 2]).call(&input(&[4, 3])).unwrap_err().to_string();
        assert!(error.contains("`reduction_axes`: expected axes [0, 2], found [4, 3]"), "{error}");
        let error = norm.call_with(&input(&[4, 3]), &input(&[4, 2])).unwrap_err().to_string();
        assert_eq!(
            error,
            "`LayerNorm` got a mask of the wrong shape: expected one that broadcasts to [4, 3], found [4, 2]"
        );
        let error = norm.pmean(|x| Ok(x.flatten_all()?)).call(&input(&[4, 3])).unwrap_err().to_string();
        assert_eq!(
            error,
            "the `pmean` of `LayerNorm` returned another shape than it got: expected [2, 4, 1] of `f32`, \
             found [8] of `f32`"
        );
        Ok(())
    }
}
