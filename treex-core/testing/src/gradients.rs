//! A value with its gradients.

use candle_core::{DType, Tensor, Var};
use treex_core::autograd::name_of;
use treex_core::{Key, Leaf, Parameter, Result, Tree, value_and_grad};

/// Fixed normal numbers in the shape and element type of `y` and on its device, which every element type represents exactly.
pub(crate) fn weights(y: &Tensor) -> Result<Tensor> {
    let weights = Key::from(7).normal(y.shape(), DType::BF16)?.to_dtype(y.dtype())?;
    Ok(weights.to_device(y.device())?)
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

/// A value and the gradients of its product with fixed numbers, one for each input.
#[derive(Debug)]
pub struct Outcome {
    /// The value, then the gradients.
    pub tensors: Vec<Tensor>,
    /// The operation that computed the value; `None` if it was Candle.
    pub operation: Option<&'static str>,
}

/// `f` of variables with the values of `inputs`, and the gradients of its [`weighted_sum`]; by treex's backward pass, and
/// zeros where there is no gradient.
///
/// # Errors
/// Those of `f`.
pub fn outcome(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<Outcome> {
    let leaves = inputs.iter().map(Leaf::<Parameter>::new).collect::<Result<Vec<_>>>()?;
    outcome_of(&leaves, |leaves| f(&leaves.iter().map(Leaf::get).collect::<Result<Vec<_>>>()?))
}

/// [`outcome`] of a tree.
///
/// # Errors
/// Those of `f`.
///
/// # Panics
/// Never: the closure of a gradient runs once.
pub fn outcome_of<T: Tree + Clone>(tree: &T, f: impl Fn(&mut T) -> Result<Tensor>) -> Result<Outcome> {
    let mut seen = None;
    let (_, gradients) = value_and_grad(tree, |tree| {
        let y = f(tree)?;
        seen = Some((y.detach(), name_of(&y)));
        let sum = weighted_sum(&y)?;
        if y.elem_count() > 0 {
            return Ok(sum);
        }
        // The sum of no elements may be a constant, whose gradient is an error.
        let nothing = (tree.flatten().tensors().next().expect("a leaf").sum_all()? * 0.)?;
        Ok((&sum + nothing.to_dtype(sum.dtype())?)?)
    })?;
    let (y, operation) = seen.expect("the closure ran");
    let tensors = [y].into_iter().chain(gradients.flatten().tensors().cloned()).collect();
    Ok(Outcome { tensors, operation })
}
