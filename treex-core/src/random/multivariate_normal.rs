//! Normal vectors with a covariance.

use candle_core::{DType, Shape, Tensor};
use nalgebra::DMatrix;

use super::Key;
use super::real_array::{RealArray, Wide, match_wide, samples};
use crate::error::{Error, Result};

impl Key {
    /// Normal vectors of shape `[*shape, n]`, for a `mean` of shape `[.., n]` and a covariance of shape `[.., n, n]`, whose
    /// other dimensions broadcast to `shape`: `jax.random.multivariate_normal(key, mean, cov, shape, dtype)` with its
    /// default method, Cholesky's; computed in `F64`, so that `F32` agrees with JAX to the rounding error of its
    /// factorization. Only the lower triangle of a covariance is read, after JAX's average of both.
    ///
    /// # Errors
    /// If a covariance is not positive definite, where JAX's samples are NaN, or if shapes do not match.
    pub fn multivariate_normal(
        self,
        mean: &Tensor,
        cov: &Tensor,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let n = mean.dims().last().copied().unwrap_or(0);
        if mean.rank() == 0 || !cov.dims().ends_with(&[n, n]) {
            return Err(Error::shape("`multivariate_normal` got shapes that do not match")
                .expected("a mean [.., n] and a covariance [.., n, n]")
                .found(format!("{:?} and {:?}", mean.dims(), cov.dims()))
                .remedy("give a square matrix of the length of the mean"));
        }
        let shape = Shape::from([shape.dims(), &[n]].concat());
        match_wide!("multivariate_normal", dtype, |T| self.correlated::<T>(mean, cov, n, &shape))
    }

    fn correlated<T: Wide>(self, mean: &Tensor, cov: &Tensor, n: usize, shape: &Shape) -> Result<Tensor> {
        let matrices = Shape::from([shape.dims(), &[n]].concat());
        let cov = RealArray::from(cov).values::<f64>("multivariate_normal", &matrices)?;
        let mean = RealArray::from(mean).values::<f64>("multivariate_normal", shape)?;
        let normals = self.normal_values::<T>(mean.len())?;
        let mut vectors = Vec::with_capacity(mean.len());
        let mut last: Option<(&[f64], DMatrix<f64>)> = None;
        for ((cov, mean), normals) in cov
            .chunks_exact((n * n).max(1))
            .zip(mean.chunks_exact(n.max(1)))
            .zip(normals.chunks_exact(n.max(1)))
        {
            // One covariance for all rows is factorized once.
            let factor = match last.take() {
                Some((of, factor)) if of == cov => factor,
                _ => factor_of(cov, n)?,
            };
            for (row, mean) in mean.iter().enumerate() {
                let noise: f64 =
                    (0..=row).map(|column| factor[(row, column)] * normals[column].to_f64()).sum();
                vectors.push(T::of(mean + noise));
            }
            last = Some((cov, factor));
        }
        samples(vectors, shape)
    }
}

/// The lower triangular factor of a matrix in row-major order.
fn factor_of(cov: &[f64], n: usize) -> Result<DMatrix<f64>> {
    let matrix = DMatrix::from_row_slice(n, n, cov);
    let symmetric = (&matrix + matrix.transpose()) * 0.5;
    symmetric.cholesky().map(|factor| factor.unpack()).ok_or_else(|| {
        Error::argument("a covariance of `multivariate_normal` is not positive definite")
            .expected("a symmetric matrix with positive eigenvalues")
            .found(format!("a matrix with the diagonal {:?}", matrix.diagonal().as_slice()))
            .remedy("add a small number to the diagonal")
    })
}
