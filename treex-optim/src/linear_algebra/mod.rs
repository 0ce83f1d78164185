//! Linear algebra that optimizers and constraints need, with Optax's names.
//!
//! | | |
//! |---|---|
//! | eigenvalues, roots of matrices | [`power_iteration`], [`matrix_inverse_pth_root`] |
//! | least squares | [`nnls`] |
//! | norms with finite gradients | [`safe_norm`], [`safe_root_mean_squares`] |
//! | gradients | [`scale_gradient`] |
//! | assignment | [`hungarian_algorithm`] |

use candle_core::Tensor;
use treex_core::{Error, ErrorKind, Result};

use crate::numerics::wide;

mod hungarian_algorithm;
mod matrix_inverse_pth_root;
mod nnls;
mod power_iteration;
mod safe_norm;
mod scale_gradient;

pub use hungarian_algorithm::hungarian_algorithm;
pub use matrix_inverse_pth_root::{InversePthRoot, matrix_inverse_pth_root, matrix_inverse_pth_root_with};
pub use nnls::{nnls, nnls_with};
pub use power_iteration::{PowerIteration, power_iteration, power_iteration_with};
pub use safe_norm::{safe_norm, safe_norm_with, safe_root_mean_squares};
pub use scale_gradient::scale_gradient;

/// In the compute type; an error unless these are floats of this rank.
fn floats(function: &str, what: &str, tensor: &Tensor, rank: usize) -> Result<Tensor> {
    if tensor.rank() != rank {
        return Err(Error::shape(format!("`{function}` got {what} of the wrong rank"))
            .expected(format!("rank {rank}"))
            .found(format!("shape {:?}", tensor.dims())));
    }
    if !tensor.dtype().is_float() {
        return Err(Error::new(
            ErrorKind::DType,
            format!("`{function}` got {what} that does not hold floats"),
        )
        .expected("a float type")
        .found(format!("`{}`", tensor.dtype().as_str()))
        .remedy("cast it with `to_dtype(DType::F32)?`"));
    }
    Ok(tensor.to_dtype(wide(tensor.dtype()))?)
}

/// [`floats`]; an error unless it is a square matrix.
fn square(function: &str, matrix: &Tensor) -> Result<(Tensor, usize)> {
    let wide = floats(function, "a matrix", matrix, 2)?;
    match *wide.dims() {
        [rows, columns] if rows == columns && rows > 0 => Ok((wide, rows)),
        _ => Err(Error::shape(format!("`{function}` needs a square matrix"))
            .expected("shape [n, n]")
            .found(format!("{:?}", matrix.dims()))),
    }
}
