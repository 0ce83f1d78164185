//! Root mean square normalization.

use candle_core::{DType, Shape, Tensor};
use treex_core::{Leaf, Parameter, Result, TreeObject};

use super::extent::as_rows;
use super::features::with_rank_of;
use super::options::{features_option, masked_call, normalization_options};
use crate::axes::Axes;
use crate::functional::normalization::Normalization;
use crate::initializers::ones;
use crate::layers::options::parameter_options;
use crate::ops::norm::Source;

/// `y = x / sqrt(mean(x²) + epsilon) · scale`, for each sample over its features: Flax's `RMSNorm` (Zhang and
/// Sennrich, 2019).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{RmsNorm, prelude::*};
///
/// let mut norm = RmsNorm::new(3).init(42, &Device::Cpu)?;
/// assert_eq!(Leaf::get_optional(&norm.scale)?.unwrap().dims(), [3]);
/// let x = Tensor::new(&[[1f32, 2., 3.], [4., 4., 4.]], &Device::Cpu)?;
/// assert_eq!(norm.call(&x)?.dims(), [2, 3]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct RmsNorm {
    /// `[*features]`; default: ones.
    pub scale: Option<Leaf<Parameter>>,
    features: Option<Shape>,
    #[tree(skip)]
    reduction_axes: Axes,
    #[tree(skip)]
    feature_axes: Axes,
    #[tree(skip)]
    normalization: Normalization,
    dtype: Option<DType>,
}

impl RmsNorm {
    fn of(features: Option<Shape>) -> Self {
        let norm = Self {
            scale: None,
            features,
            reduction_axes: (-1).into(),
            feature_axes: (-1).into(),
            normalization: Normalization::new("RmsNorm", 1e-6),
            dtype: None,
        };
        norm.use_scale(true)
    }

    /// The axes over which the mean is taken; default: the last.
    #[must_use]
    pub fn reduction_axes(self, reduction_axes: impl Into<Axes>) -> Self {
        Self { reduction_axes: reduction_axes.into(), ..self }
    }

    /// The axes that the scale has; default: the last.
    #[must_use]
    pub fn feature_axes(self, feature_axes: impl Into<Axes>) -> Self {
        Self { feature_axes: feature_axes.into(), ..self }
    }

    fn normalized(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let leaves = [self.scale.as_ref(), None];
        let (axes, features) =
            self.normalization.axes_and_features(x, &self.feature_axes, &self.features, leaves)?;
        let reduced = self.reduction_axes.of("RmsNorm", "reduction_axes", x.dims())?;
        let rows = (as_rows(x, &reduced, &axes, &features), Source::Squares);
        if let Some(normalized) = self.normalization.fused(x, rows, &features, mask, self.dtype)? {
            return Ok(normalized.y);
        }
        let mean_square = self.normalization.mean_square(x, &reduced, mask, self.dtype)?;
        self.normalization.normalize(x, (None, &mean_square), &with_rank_of(&features, x, &axes)?, self.dtype)
    }
}

parameter_options!(RmsNorm { scale: scale_init });
features_option!(RmsNorm);
normalization_options!(RmsNorm, epsilon "1e-6", { scale: use_scale ones });
masked_call!(RmsNorm);

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{ErrorKind, prelude::*};

    use super::*;

    #[test]
    fn errors() -> Result<()> {
        let norm = RmsNorm::lazy().init_with(0, &Tensor::ones((4, 3), DType::F32, &Device::Cpu)?)?;
        let x = Tensor::ones((4, 2), DType::F32, &Device::Cpu)?;
        let error = norm.clone().call(&x).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(error.to_string().contains("expected 3 features on axis -1, found [4, 2]"), "{error}");
        let error = norm.call_with(&Tensor::ones((4, 3), DType::F32, &Device::Cpu)?, &x).unwrap_err();
        assert!(error.to_string().starts_with("`RmsNorm` got a mask of the wrong shape"), "{error}");
        Ok(())
    }
}
