//! Standardization: mean 0 and variance 1.

use candle_core::Tensor;
use candle_core::shape::Dims;
use treex_core::Result;
use treex_core::extrema::maximum;

use super::softmax::{broadcast, wide};
use crate::dtype::common_dtype;
use crate::functional::normalization::Normalization;

/// `(x - mean) / sqrt(var + epsilon)` along a dimension, or over several. Flax's default: `epsilon` 1e-5.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let y = treex_nn::standardize(&x, 1, 1e-5)?;
/// assert_eq!(format!("{:.4?}", y.to_vec2::<f32>()?), "[[-1.2247, 0.0000, 1.2247], [0.0000, 0.0000, 0.0000]]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// Any error of Candle.
pub fn standardize(x: &Tensor, dims: impl Dims, epsilon: f64) -> Result<Tensor> {
    standardize_with(x, dims, &StandardizeOptions::default().epsilon(epsilon))
}

pub use standardize as normalize;

/// The options of [`standardize_with`], which are those of JAX.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StandardizeOptions<'t> {
    /// The mean, which broadcasts to `x`; default: that of the elements.
    pub mean: Option<&'t Tensor>,
    /// The variance, which broadcasts to `x`; default: that of the elements.
    pub variance: Option<&'t Tensor>,
    /// Added to the variance; default: 1e-5.
    pub epsilon: f64,
    /// Mean and variance are taken over the elements where the mask is not 0; it broadcasts to `x`.
    pub mask: Option<&'t Tensor>,
    /// Whether the variance is `mean((x - mean)²)` instead of `mean(x²) - mean²`; default: false.
    pub stable: bool,
}

impl Default for StandardizeOptions<'_> {
    fn default() -> Self {
        Self { mean: None, variance: None, epsilon: 1e-5, mask: None, stable: false }
    }
}

impl<'t> StandardizeOptions<'t> {
    /// With a [`mean`](Self::mean).
    #[must_use]
    pub fn mean(self, mean: impl Into<Option<&'t Tensor>>) -> Self {
        Self { mean: mean.into(), ..self }
    }

    /// With a [`variance`](Self::variance).
    #[must_use]
    pub fn variance(self, variance: impl Into<Option<&'t Tensor>>) -> Self {
        Self { variance: variance.into(), ..self }
    }

    /// With another [`epsilon`](Self::epsilon).
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// With a [`mask`](Self::mask).
    #[must_use]
    pub fn mask(self, mask: impl Into<Option<&'t Tensor>>) -> Self {
        Self { mask: mask.into(), ..self }
    }

    /// With a choice of [`stable`](Self::stable).
    #[must_use]
    pub fn stable(self, stable: bool) -> Self {
        Self { stable, ..self }
    }
}

/// [`standardize`] with all options.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 1., 2.], [3., 3., 3.]], &Device::Cpu)?;
/// let options = treex_nn::StandardizeOptions::default().stable(true);
/// let y = treex_nn::standardize_with(&x, 1, &options)?;
/// assert_eq!(format!("{:.4?}", y.to_vec2::<f32>()?), "[[-1.2247, 0.0000, 1.2247], [0.0000, 0.0000, 0.0000]]");
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If mean, variance or mask do not fit.
pub fn standardize_with(x: &Tensor, dims: impl Dims, options: &StandardizeOptions<'_>) -> Result<Tensor> {
    let mut dims = dims.to_indexes(x.shape(), "standardize")?;
    dims.sort_unstable();
    let normalization = Normalization::new("standardize", options.epsilon);
    let x = x.to_dtype(common_dtype(None, [x]))?;
    let all = wide(&x)?;
    let mean_of = |x: &Tensor| normalization.mean(x, &dims, options.mask);
    let given = |what, part: Option<&Tensor>| -> Result<Option<Tensor>> {
        part.map(|part| broadcast("standardize_with", what, &wide(part)?, &x)).transpose()
    };
    let mean = given("mean", options.mean)?.map_or_else(|| mean_of(&all), Ok)?;
    let variance = match given("variance", options.variance)? {
        Some(variance) => variance,
        None if options.stable => mean_of(&all.broadcast_sub(&mean)?.sqr()?)?,
        None => maximum(&mean_of(&all.sqr()?)?.broadcast_sub(&mean.sqr()?)?, 0f64)?,
    };
    normalization.normalize(&x, (Some(&mean), &variance), &[None, None], None)
}
