//! Newton-Schulz iteration: an approximately orthogonal matrix.

use candle_core::{Device, Tensor};
use nalgebra::DMatrix;
use treex_core::extrema::maximum;
use treex_core::{Error, Result, matmul};

use crate::numerics::at_least;
use crate::transfer::{to_device_of, to_f64, to_vec_f64};
use crate::transform::builder;

/// The scaling that makes the singular values small enough for the iteration to converge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preconditioning {
    /// Division by the root of the sum of squares.
    Frobenius,
    /// Division by the largest singular value, which is computed on the CPU.
    Spectral,
    /// Almost orthogonal layers: each row is divided by the root of the sum of the absolute values in its
    /// row of `X X^T`.
    Aol,
    /// Division by the root of the Frobenius norm of `X X^T`.
    Schatten,
}

/// See [`newton_schulz`].
#[derive(Clone, Debug, PartialEq)]
pub struct NewtonSchulz {
    coeffs: Vec<[f64; 3]>,
    preconditioning: Preconditioning,
    eps: f64,
}

/// Moves the singular values of a matrix towards one by matrix products alone. After the preconditioning,
/// for the coefficients `a`, `b`, `c` of each step:
///
/// ```text
/// X = a X + (b A + c A^2) X,   A = X X^T     on the transpose if there are more rows than columns
/// ```
///
/// Five steps with [`STANDARD`](NewtonSchulz::STANDARD) coefficients bring them to about 0.7 to 1.2, which
/// suffices for an optimizer.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// # use treex_optim::newton_schulz;
/// let x = Tensor::new(&[[3f32, 0.], [4., 5.]], &Device::Cpu)?;
/// let o = newton_schulz().orthogonalize(&x)?;
/// assert_eq!(o.dims(), [2, 2]);
/// let square = o.matmul(&o.t()?)?.to_vec2::<f32>()?;
/// assert!(square[0][0] > 0.4 && square[0][0] < 1.5 && square[0][1].abs() < 0.4);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn newton_schulz() -> NewtonSchulz {
    NewtonSchulz {
        coeffs: vec![NewtonSchulz::STANDARD; 5],
        preconditioning: Preconditioning::Frobenius,
        eps: 1e-8,
    }
}

builder!(NewtonSchulz {
    /// The scaling before the first step.
    preconditioning: Preconditioning,
    /// Added to norms in denominators.
    eps: f64,
});

impl NewtonSchulz {
    /// Keller Jordan's coefficients, for every step.
    pub const STANDARD: [f64; 3] = [3.4445, -4.7750, 2.0315];

    /// Dion's, for five steps.
    pub const DION: [[f64; 3]; 5] = [
        [4.0848, -6.8946, 2.9270],
        [3.9505, -6.3029, 2.6377],
        [3.7418, -5.5913, 2.3037],
        [2.8769, -3.1427, 1.2046],
        [2.8366, -3.0525, 1.2012],
    ];

    /// The coefficients of each step.
    #[must_use]
    pub fn coeffs(self, coeffs: impl IntoIterator<Item = [f64; 3]>) -> Self {
        Self { coeffs: coeffs.into_iter().collect(), ..self }
    }

    /// A matrix with the same singular vectors, and singular values around one.
    ///
    /// # Errors
    /// If `x` is not a matrix of floats.
    pub fn orthogonalize(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, columns) = x.dims2().map_err(|_| {
            Error::shape("only a matrix can be orthogonalized")
                .expected("[rows, columns]")
                .found(format!("{:?}", x.dims()))
        })?;
        if rows > columns {
            return Ok(self.of_wide(&x.t()?.contiguous()?)?.t()?.contiguous()?);
        }
        self.of_wide(x)
    }

    fn of_wide(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = match self.preconditioning {
            Preconditioning::Frobenius => (x / (frobenius(x)? + self.eps))?,
            Preconditioning::Spectral => (x / (largest_singular_value(x)? + self.eps))?,
            Preconditioning::Aol | Preconditioning::Schatten => x.clone(),
        };
        for (index, [a, b, c]) in self.coeffs.iter().enumerate() {
            let mut square = matmul(&x, &x.t()?)?;
            match self.preconditioning {
                Preconditioning::Aol if index == 0 => {
                    let scale = maximum(&square.abs()?.sum_keepdim(1)?, self.eps)?.sqrt()?.recip()?;
                    x = x.broadcast_mul(&scale)?;
                    square = square.broadcast_mul(&scale)?.broadcast_mul(&scale.t()?)?;
                }
                Preconditioning::Schatten if index == 0 => {
                    let norm = at_least(frobenius(&square)?, self.eps);
                    x = (x / norm.sqrt())?;
                    square = (square / norm)?;
                }
                _ => {}
            }
            let polynomial = ((&square * *b)? + (matmul(&square, &square)? * *c)?)?;
            x = ((&x * *a)? + matmul(&polynomial, &x)?)?;
        }
        Ok(x)
    }
}

fn frobenius(x: &Tensor) -> Result<f64> {
    Ok(to_f64(&x.sqr()?.sum_all()?)?.sqrt())
}

/// A matrix on the CPU, in f64.
pub(super) fn to_matrix(x: &Tensor) -> Result<DMatrix<f64>> {
    let (rows, columns) = x.dims2()?;
    Ok(DMatrix::from_row_slice(rows, columns, &to_vec_f64(x)?))
}

/// The inverse of [`to_matrix`], on the device of another tensor.
pub(super) fn beside(matrix: &DMatrix<f64>, like: &Tensor) -> Result<Tensor> {
    // nalgebra is column-major, Candle row-major.
    let values: Vec<f64> = matrix.transpose().iter().copied().collect();
    let tensor = Tensor::from_vec(values, (matrix.nrows(), matrix.ncols()), &Device::Cpu)?;
    to_device_of(&tensor.to_dtype(like.dtype())?, like)
}

/// More iterations than any finite matrix needs; bounded in case one does not converge.
pub(super) const SVD_ITERATIONS: usize = 100_000;

/// NaN for a matrix that is not finite, 0 for one without elements.
fn largest_singular_value(x: &Tensor) -> Result<f64> {
    if x.elem_count() == 0 {
        return Ok(0.);
    }
    let matrix = to_matrix(x)?;
    if matrix.iter().any(|value| !value.is_finite()) {
        return Ok(f64::NAN);
    }
    let svd = matrix.try_svd(false, false, f64::EPSILON, SVD_ITERATIONS);
    Ok(svd.map_or(f64::NAN, |svd| svd.singular_values.max()))
}
