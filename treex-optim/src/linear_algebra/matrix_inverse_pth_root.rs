//! Roots of inverse matrices.

use candle_core::Tensor;
use treex_core::{Error, Result};

use super::{power_iteration, square};
use crate::constant::check_constant;
use crate::transfer::to_f64;

/// The options of [`matrix_inverse_pth_root_with`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InversePthRoot {
    num_iters: usize,
    ridge_epsilon: f64,
    error_tolerance: f64,
}

impl Default for InversePthRoot {
    /// At most 100 iterations, a ridge of 1e-6 of the largest eigenvalue, an error of 1e-6.
    fn default() -> Self {
        Self { num_iters: 100, ridge_epsilon: 1e-6, error_tolerance: 1e-6 }
    }
}

impl InversePthRoot {
    /// The largest number of iterations.
    #[must_use]
    pub fn num_iters(self, num_iters: usize) -> Self {
        Self { num_iters, ..self }
    }

    /// The ridge added to the diagonal, relative to the largest eigenvalue.
    #[must_use]
    pub fn ridge_epsilon(self, ridge_epsilon: f64) -> Self {
        Self { ridge_epsilon, ..self }
    }

    /// The error tolerance.
    #[must_use]
    pub fn error_tolerance(self, error_tolerance: f64) -> Self {
        Self { error_tolerance, ..self }
    }
}

/// [`matrix_inverse_pth_root_with`] the default options.
///
/// # Errors
/// As `matrix_inverse_pth_root_with`.
pub fn matrix_inverse_pth_root(matrix: &Tensor, p: u32) -> Result<(Tensor, f64)> {
    matrix_inverse_pth_root_with(matrix, p, InversePthRoot::default())
}

/// `matrix^(-1/p)` of a symmetric matrix without negative eigenvalues, which Shampoo divides by; and its
/// error. A ridge is added to the diagonal first. Newton's method with a coupled iterate:
///
/// ```text
/// m = matrix * (1 + p) / (2 * frobenius_norm),  h = identity * ((1 + p) / (2 * frobenius_norm))^(1/p)
/// t = (1 + 1/p) * identity - m/p,  m = t^p m,  h = h t
/// ```
///
/// until `error = max(|m - identity|)` is small enough, or grows. Any `p` is right here; Optax knows 1, 2, 4
/// and 8. It computes in f64 for f64, else in f32.
///
/// Higham, Functions of Matrices: Theory and Computation, 2008, equation 7.18.
///
/// # Errors
/// If the matrix is not square, does not hold floats or is differentiated, or `p` is 0.
pub fn matrix_inverse_pth_root_with(
    matrix: &Tensor,
    p: u32,
    options: InversePthRoot,
) -> Result<(Tensor, f64)> {
    let name = "matrix_inverse_pth_root";
    check_constant(name, matrix)?;
    let (wide, n) = square(name, matrix)?;
    if p == 0 {
        return Err(Error::argument(format!("`p` of `{name}` is 0")).expected("a number, at least 1"));
    }
    let root = 1. / f64::from(p);
    let ridge = options.ridge_epsilon * power_iteration(&wide)?.0.max(1e-16);
    let identity = Tensor::eye(n, wide.dtype(), wide.device())?;
    let damped = (wide + (&identity * ridge)?)?;
    if n == 1 {
        return Ok((damped.powf(-root)?.to_dtype(matrix.dtype())?, 0.));
    }
    let distance = |m: &Tensor| -> Result<f64> { to_f64(&(m - &identity)?.abs()?.flatten_all()?.max(0)?) };
    let norm = to_f64(&damped.sqr()?.sum_all()?.sqrt()?)?;
    let z = (1. + f64::from(p)) / (2. * norm);
    let mut m = (damped * z)?;
    let mut h = (&identity * z.powf(root))?;
    let mut error = distance(&m)?;
    for _ in 0..options.num_iters {
        if error <= options.error_tolerance {
            break;
        }
        let t = ((&identity * (1. + root))? - (&m * root)?)?;
        m = power(&t, p)?.matmul(&m)?;
        let (before, next) = (error, h.matmul(&t)?);
        error = distance(&m)?;
        // The error may grow a little before it falls; beyond that, the previous iterate was the best.
        if error.is_nan() || error >= before * 1.2 {
            break;
        }
        h = next;
    }
    Ok((h.to_dtype(matrix.dtype())?, error))
}

/// `matrix^p`, by squaring.
fn power(matrix: &Tensor, p: u32) -> Result<Tensor> {
    if p == 1 {
        return Ok(matrix.clone());
    }
    let half = power(matrix, p / 2)?;
    let square = half.matmul(&half)?;
    Ok(if p % 2 == 1 { square.matmul(matrix)? } else { square })
}
