//! The truncated normal distribution.

use candle_core::{DType, Shape};
use treex_core::Key;

use super::{InitFn, scalar, times};

/// The standard normal truncated to (-2, 2), times `stddev`, which is therefore slightly larger than the
/// standard deviation of the samples. JAX's default is 0.01. Other bounds: [`TruncatedNormal`].
///
/// ```
/// # use candle_core::DType;
/// # use treex_core::Key;
/// let init = treex_nn::initializers::truncated_normal(0.01);
/// let kernel = init(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// assert_eq!(kernel.dims(), [3, 4]);
/// assert!(kernel.abs()?.max_all()?.to_scalar::<f32>()? < 0.02);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn truncated_normal(stddev: f64) -> impl InitFn {
    TruncatedNormal::new(stddev).build()
}

/// [`truncated_normal`] with a choice of bounds, in standard deviations.
///
/// As in JAX, with `lower >= upper` every sample is the number just below `upper`, times `stddev`.
///
/// ```
/// use candle_core::DType;
/// use treex_core::Key;
/// use treex_nn::initializers::TruncatedNormal;
///
/// let init = TruncatedNormal::new(0.02).lower(0.).upper(1.).build();
/// let kernel = init(&Key::from(42), &(3, 4).into(), DType::F32)?;
/// assert!(kernel.min_all()?.to_scalar::<f32>()? > 0. && kernel.max_all()?.to_scalar::<f32>()? < 0.02);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TruncatedNormal {
    stddev: f64,
    lower: f64,
    upper: f64,
}

impl TruncatedNormal {
    /// Truncated to (-2, 2).
    #[must_use]
    pub fn new(stddev: f64) -> Self {
        Self { stddev, lower: -2., upper: 2. }
    }

    /// The lower bound, before scaling.
    #[must_use]
    pub fn lower(self, lower: f64) -> Self {
        Self { lower, ..self }
    }

    /// The upper bound, before scaling.
    #[must_use]
    pub fn upper(self, upper: f64) -> Self {
        Self { upper, ..self }
    }

    /// The initializer.
    #[must_use]
    pub fn build(self) -> impl InitFn {
        move |key: &Key, shape: &Shape, dtype: DType| {
            let samples = key.truncated_normal(self.lower, self.upper, shape, dtype)?;
            times(&samples, &scalar(self.stddev, dtype)?)
        }
    }
}
