//! Samplers of continuous distributions.

use candle_core::{DType, Shape, Tensor};
use half::{bf16, f16};

use super::Key;
use super::distribution::{
    Cauchy, Distribution, Draw, Exponential, Gumbel, Laplace, Logistic, Normal, TruncatedNormal, Uniform,
};
use crate::error::{Error, ErrorKind, Result};

/// Every `dtype` is one of `BF16`, `F16`, `F32` and `F64`.
impl Key {
    /// Uniform on [0, 1): `jax.random.uniform(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn uniform(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.uniform_between(shape, dtype, 0., 1.)
    }

    /// Uniform on [minval, maxval): `jax.random.uniform(key, shape, dtype, minval, maxval)`. Rounding can
    /// give `maxval` itself; with `minval > maxval` every sample is `minval`, and with a NaN bound every sample is NaN.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn uniform_between(
        self,
        shape: impl Into<Shape>,
        dtype: DType,
        minval: f64,
        maxval: f64,
    ) -> Result<Tensor> {
        self.draw(shape, dtype, Uniform { minval, maxval })
    }

    /// Standard normal: `jax.random.normal(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn normal(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.draw(shape, dtype, Normal)
    }

    /// Standard normal, truncated to (lower, upper): `jax.random.truncated_normal(key, lower, upper, shape, dtype)`.
    /// With `lower >= upper` every sample is the number just below `upper`, and with a NaN bound every sample is NaN.
    /// A bound of 0 can itself be drawn.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn truncated_normal(
        self,
        lower: f64,
        upper: f64,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        self.draw(shape, dtype, TruncatedNormal { lower, upper })
    }

    /// Gumbel, -log(-log(u)), the noise of [`categorical`](Self::categorical):
    /// `jax.random.gumbel(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn gumbel(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.draw(shape, dtype, Gumbel)
    }

    /// Exponential of rate 1, -log(1 - u): `jax.random.exponential(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn exponential(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.draw(shape, dtype, Exponential)
    }

    /// Laplace of scale 1, sign(u) * log(1 - |u|) with u on (-1, 1): `jax.random.laplace(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn laplace(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.draw(shape, dtype, Laplace)
    }

    /// Logistic, log(u) - log(1 - u): `jax.random.logistic(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn logistic(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.draw(shape, dtype, Logistic)
    }

    /// Cauchy, tan(pi * (u - 1/2)): `jax.random.cauchy(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn cauchy(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.draw(shape, dtype, Cauchy)
    }

    fn draw<D: Distribution>(self, shape: impl Into<Shape>, dtype: DType, distribution: D) -> Result<Tensor> {
        self.draw_from(0, shape, dtype, distribution)
    }

    /// The samples at the flat indices from `start` on.
    pub(super) fn draw_from<D: Distribution>(
        self,
        start: u64,
        shape: impl Into<Shape>,
        dtype: DType,
        distribution: D,
    ) -> Result<Tensor> {
        match dtype {
            DType::BF16 => self.sample(start, shape, Draw::<D, bf16>(distribution.arguments())),
            DType::F16 => self.sample(start, shape, Draw::<D, f16>(distribution.arguments())),
            DType::F32 => self.sample(start, shape, Draw::<D, f32>(distribution.arguments())),
            DType::F64 => self.sample(start, shape, Draw::<D, f64>(distribution.arguments())),
            other => Err(wrong_type(D::NAME, "`bf16`, `f16`, `f32` or `f64`", other)),
        }
    }
}

/// The error of a sampler that does not support `found`.
pub(super) fn wrong_type(sampler: &str, expected: &str, found: DType) -> Error {
    Error::new(ErrorKind::DType, format!("`{sampler}` does not support this element type"))
        .expected(expected)
        .found(format!("`{}`", found.as_str()))
}
