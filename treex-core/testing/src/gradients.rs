//! A value with its gradients.

use candle_core::{DType, Tensor, Var};
use treex_core::{Key, Result};

/// Fixed normal numbers in the shape and element type of `y`, which every element type represents exactly.
pub(crate) fn weights(y: &Tensor) -> Result<Tensor> {
    Ok(Key::from(7).normal(y.shape(), DType::BF16)?.to_dtype(y.dtype())?)
}

/// The sum of the products of `y` with fixed normal numbers: a loss whose gradient differs from element to element.
///
/// # Errors
/// If `y` is no float.
pub fn weighted_sum(y: &Tensor) -> Result<Tensor> {
    Ok((y * weights(y)?)?.sum_all()?)
}

/// `f` of variables with the values of `inputs`, and the gradients of its [`weighted_sum`]; by Candle's backward pass,
/// and zeros where there is no gradient.
///
/// # Errors
/// Those of `f`.
pub fn value_and_gradients(
    inputs: &[Tensor],
    f: impl FnOnce(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let vars = inputs.iter().map(Var::from_tensor).collect::<candle_core::Result<Vec<_>>>()?;
    let y = f(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>())?;
    let gradients = weighted_sum(&y)?.backward()?;
    let of = |var: &Var| Ok(gradients.get(var).cloned().map_or_else(|| var.zeros_like(), Ok)?);
    [Ok(y.detach())].into_iter().chain(vars.iter().map(of)).collect()
}
