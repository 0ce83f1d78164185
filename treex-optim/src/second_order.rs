//! Diagonals of second derivatives, as model-shaped trees: Optax's `second_order`. Products of a Hessian with a vector are
//! [`treex_core::hvp`], whole Hessians [`treex_core::hessian`].

use candle_core::{DType, Tensor};
use treex_core::constants::arange;
use treex_core::{Error, Filter, Result, TreeObject, prelude::*, vjp};

/// The diagonal of the Hessian of `f` at `tree`, for the selected leaves: one backward pass through the gradient for each
/// of their elements. Needs
/// [`enable_nested_gradients`](treex_core::enable_nested_gradients).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, enable_nested_gradients};
/// use treex_optim::second_order::hessian_diag;
///
/// enable_nested_gradients()?;
/// let x = Leaf::<Parameter>::new(Tensor::new(&[1f64, 2.], &Device::Cpu)?)?;
/// let diagonal = hessian_diag(&x, Parameter, |x| Ok((x.get()?.powf(3.)?.sum_all()? * 2.)?))?;
/// assert_eq!(diagonal.get()?.to_vec1::<f64>()?, [12., 24.]); // 12 x
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`treex_core::hvp`].
pub fn hessian_diag<T: TreeObject + Clone>(
    tree: &T,
    filter: impl Filter + Clone,
    f: impl Fn(&mut T) -> Result<Tensor>,
) -> Result<T> {
    let mut lengths = Vec::new();
    let (gradient, pullback) = vjp(tree, filter.clone(), |tree| {
        let (_, gradient) = tree.value_and_grad(filter.clone(), &f)?;
        let flat = gradient.flatten();
        lengths = flat.tensors().map(Tensor::elem_count).collect();
        let dtype = flat.tensors().next().map_or(DType::F32, Tensor::dtype);
        let parts = flat.tensors().map(|part| part.flatten_all()?.to_dtype(dtype));
        Ok(Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    })?;
    // The element of the leaf's row of the Hessian that is on the diagonal.
    let element = |leaf: usize, at: usize| -> Result<Tensor> {
        let start: usize = lengths[..leaf].iter().sum();
        let unit = arange(gradient.elem_count(), gradient.device())?.eq((start + at) as i64)?;
        let row = pullback.call(&unit.to_dtype(gradient.dtype())?)?.flatten();
        let own = row.tensors().nth(leaf).ok_or_else(|| {
            Error::argument("a selected leaf has no second derivative")
                .remedy("select leaves that are trained")
        })?;
        Ok(own.flatten_all()?.get(at)?)
    };
    let selected = pullback.call(&gradient.zeros_like()?)?;
    let mut leaf = 0..;
    selected.map(|x| {
        let leaf = leaf.next().unwrap_or_default();
        let elements = (0..x.elem_count()).map(|at| element(leaf, at)).collect::<Result<Vec<_>>>()?;
        if elements.is_empty() { Ok(x.clone()) } else { Ok(Tensor::stack(&elements, 0)?.reshape(x.shape())?) }
    })
}

/// The diagonal of the observed Fisher information of a negative log-likelihood at `tree`: the squares of its gradient.
///
/// # Errors
/// As [`treex_core::value_and_grad`].
pub fn fisher_diag<T: TreeObject + Clone>(
    tree: &T,
    filter: impl Filter,
    negative_log_likelihood: impl FnOnce(&mut T) -> Result<Tensor>,
) -> Result<T> {
    let (_, gradient) = tree.clone().value_and_grad(filter, negative_log_likelihood)?;
    gradient.map(|gradient| Ok(gradient.sqr()?))
}
