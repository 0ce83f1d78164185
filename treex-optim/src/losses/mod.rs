//! Losses, on tensors, one file for each family.
//!
//! Except for [`mse`] they do not reduce over the batch: take `mean_all` of what they return. Half-precision
//! inputs give f32 losses, since a sum in half precision stops growing early.

use candle_core::Tensor;
use treex_core::{Error, ErrorKind, Result};

use crate::numerics::wide;

mod classification;
mod regression;

pub use classification::{softmax_cross_entropy, softmax_cross_entropy_with_integer_labels};
pub use regression::{l2_loss, mse, squared_error};

/// Both in the type to compute in, if they have the same shape and element type.
fn aligned(loss: &str, first: (&str, &Tensor), second: (&str, &Tensor)) -> Result<(Tensor, Tensor)> {
    let ((name, first), (other, second)) = (first, second);
    if first.shape() != second.shape() {
        return Err(Error::shape(format!("`{loss}` got {name} and {other} of different shapes"))
            .expected(format!("{other} of shape {:?}, as the {name}", first.dims()))
            .found(format!("{:?}", second.dims()))
            .remedy("`reshape` or `unsqueeze` one of them; losses do not broadcast"));
    }
    if first.dtype() != second.dtype() {
        return Err(Error::new(
            ErrorKind::DType,
            format!("`{loss}` got {name} and {other} of different types"),
        )
        .expected(format!("{other} in `{}`, as the {name}", first.dtype().as_str()))
        .found(format!("`{}`", second.dtype().as_str()))
        .remedy("cast one of them with `to_dtype`"));
    }
    Ok((widened(loss, name, first)?, second.to_dtype(wide(second.dtype()))?))
}

/// In the type to compute in, if these are floats.
fn widened(loss: &str, name: &str, tensor: &Tensor) -> Result<Tensor> {
    if !tensor.dtype().is_float() {
        return Err(Error::new(ErrorKind::DType, format!("`{loss}` got {name} that are not floats"))
            .expected("a float type")
            .found(format!("`{}`", tensor.dtype().as_str()))
            .remedy("cast them with `to_dtype(DType::F32)?`"));
    }
    Ok(tensor.to_dtype(wide(tensor.dtype()))?)
}
