//! Instance normalization.

use candle_core::{DType, Shape, Tensor};
use treex_core::{Error, Leaf, Parameter, Result, TreeObject};

use super::extent::as_columns;
use super::features::with_rank_of;
use super::options::{features_option, masked_call, normalization_options};
use crate::axes::Axes;
use crate::functional::normalization::Normalization;
use crate::initializers::{ones, zeros};
use crate::layers::options::parameter_options;

/// `y = (x - mean) / sqrt(var + epsilon) · scale + bias`, for each feature of each sample over all other
/// dimensions: Flax's `InstanceNorm` (Ulyanov et al., 2016). The first axis is that of the samples.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{InstanceNorm, prelude::*};
///
/// let mut norm = InstanceNorm::new(3).init(42, &Device::Cpu)?;
/// assert_eq!(Leaf::get_optional(&norm.bias)?.unwrap().dims(), [3]);
/// let images = Tensor::ones((2, 5, 4, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(norm.call(&images)?.dims(), [2, 5, 4, 3]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct InstanceNorm {
    /// `[*features]`; default: ones.
    pub scale: Option<Leaf<Parameter>>,
    /// `[*features]`; default: zeros.
    pub bias: Option<Leaf<Parameter>>,
    features: Option<Shape>,
    #[tree(skip)]
    feature_axes: Axes,
    #[tree(skip)]
    normalization: Normalization,
    dtype: Option<DType>,
}

impl InstanceNorm {
    fn of(features: Option<Shape>) -> Self {
        let norm = Self {
            scale: None,
            bias: None,
            features,
            feature_axes: (-1).into(),
            normalization: Normalization::new("InstanceNorm", 1e-6),
            dtype: None,
        };
        norm.use_scale(true).use_bias(true)
    }

    /// The axes of the features; default: the last. The first axis cannot be among them.
    #[must_use]
    pub fn feature_axes(self, feature_axes: impl Into<Axes>) -> Self {
        Self { feature_axes: feature_axes.into(), ..self }
    }

    fn normalized(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let leaves = [self.scale.as_ref(), self.bias.as_ref()];
        let (axes, features) =
            self.normalization.axes_and_features(x, &self.feature_axes, &self.features, leaves)?;
        if axes.contains(&0) {
            return Err(Error::argument("`InstanceNorm` has the sample axis among its `feature_axes`")
                .expected("feature axes other than the first")
                .found(format!("{} of {:?}", self.feature_axes, x.dims()))
                .remedy("give the input a leading axis of samples: `x.unsqueeze(0)?`"));
        }
        let columns = (as_columns(x, 1, &axes), self.normalization.source());
        if let Some(normalized) = self.normalization.fused(x, columns, &features, mask, self.dtype)? {
            return Ok(normalized.y);
        }
        let reduced: Vec<usize> = (1..x.rank()).filter(|axis| !axes.contains(axis)).collect();
        let (mean, var) = self.normalization.mean_and_variance(x, &reduced, mask, self.dtype)?;
        self.normalization.normalize(x, (Some(&mean), &var), &with_rank_of(&features, x, &axes)?, self.dtype)
    }
}

parameter_options!(InstanceNorm { scale: scale_init, bias: bias_init });
features_option!(InstanceNorm);
normalization_options!(InstanceNorm, epsilon "1e-6", use_fast_variance, { scale: use_scale ones, bias: use_bias zeros });
masked_call!(InstanceNorm);

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::prelude::*;

    use super::*;

    #[test]
    fn errors() -> Result<()> {
        let mut norm = InstanceNorm::new(3).init(0, &Device::Cpu)?;
        let error = norm.call(&Tensor::ones(3, DType::F32, &Device::Cpu)?).unwrap_err().to_string();
        assert_eq!(
            error,
            "`InstanceNorm` has the sample axis among its `feature_axes`: expected feature axes other than the \
             first, found axis -1 of [3]; give the input a leading axis of samples: `x.unsqueeze(0)?`"
        );
        assert!(norm.call(&Tensor::ones((3, 4), DType::F32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
