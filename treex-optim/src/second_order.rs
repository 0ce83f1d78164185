//! Diagonals of second derivatives, as model-shaped trees: Optax's `second_order`. Products of a Hessian with a vector are
//! [`treex_core::hvp`], whole Hessians [`treex_core::hessian`].

use candle_core::Tensor;
use treex_core::{Error, Filter, Leaves, Result, TreeObject, hvp, prelude::*};

/// The diagonal of the Hessian of `f` at `tree`, for the selected leaves: one [`hvp`] for each of their elements. Needs
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
/// As [`hvp`].
pub fn hessian_diag<T: TreeObject + Clone>(
    tree: &T,
    filter: impl Filter + Clone,
    f: impl Fn(&mut T) -> Result<Tensor>,
) -> Result<T> {
    let selected = tree.filter(filter.clone());
    let leaves = selected.flatten();
    let diagonal = leaves.rebuild(|index| {
        let Some(x) = leaves.get(index) else { return Ok(None) };
        let element = |at: usize| -> Result<Tensor> {
            let unit = unit(&leaves, index, at)?;
            let (_, _, product) = hvp(tree, filter.clone(), &f, &selected.unflatten(&unit)?)?;
            let product = product.flatten();
            let row = product.get(index).ok_or_else(|| {
                Error::argument("a selected leaf has no second derivative")
                    .remedy("select leaves that are trained")
            })?;
            Ok(row.flatten_all()?.get(at)?)
        };
        let elements = (0..x.elem_count()).map(element).collect::<Result<Vec<_>>>()?;
        if elements.is_empty() {
            return Ok(Some(x.clone()));
        }
        Ok(Some(Tensor::stack(&elements, 0)?.reshape(x.shape())?))
    })?;
    selected.unflatten(&diagonal)
}

/// Zeros, and a one at one element of one leaf.
fn unit(leaves: &Leaves, index: usize, at: usize) -> Result<Leaves> {
    leaves.rebuild(|other| {
        let Some(x) = leaves.get(other) else { return Ok(None) };
        if other != index {
            return Ok(Some(x.zeros_like()?));
        }
        let mut values = vec![0f64; x.elem_count()];
        values[at] = 1.;
        let unit = Tensor::from_vec(values, x.shape(), &candle_core::Device::Cpu)?;
        Ok(Some(unit.to_dtype(x.dtype())?.to_device(x.device())?))
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
