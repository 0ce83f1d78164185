//! Jacobian-vector products: derivatives in a direction.

use candle_core::Tensor;

use crate::error::Result;
use crate::tensors::same_storage;
use crate::transform::grad::in_place;
use crate::transform::hessian::dot;
use crate::tree::filter::Filter;
use crate::tree::kind::Parameter;
use crate::tree::leaf::Leaf;
use crate::tree::object::TreeObject;
use crate::tree::verbs::Tree;

/// The value of `f` at `tree`, and its derivative in the direction `v` of the selected leaves: `jax.jvp`.
///
/// Candle has no forward mode. The gradient of `Σ f · u` is linear in `u`, so its product with `v`, differentiated by `u`,
/// is the Jacobian times `v`: exact, by two backward passes and two runs of `f`, on scratch copies of `tree`. Needs
/// [`enable_nested_gradients`](crate::enable_nested_gradients).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, enable_nested_gradients, jvp};
///
/// enable_nested_gradients()?;
/// let leaf = |x: &[f64]| Leaf::<Parameter>::new(Tensor::new(x, &Device::Cpu)?);
/// let (x, v) = (leaf(&[1., 2.])?, leaf(&[1., 10.])?);
/// let (y, dy) = jvp(&x, Parameter, |x| Ok(x.get()?.sqr()?), &v)?;
/// assert_eq!(y.to_vec1::<f64>()?, [1., 4.]);
/// assert_eq!(dy.to_vec1::<f64>()?, [2., 40.]); // 2 x v
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`hvp`](crate::hvp).
pub fn jvp<T>(
    tree: &T,
    filter: impl Filter,
    f: impl Fn(&mut T) -> Result<Tensor>,
    v: &T,
) -> Result<(Tensor, Tensor)>
where
    T: TreeObject + Clone,
{
    let value = f(&mut tree.clone())?;
    let mut u = Leaf::<Parameter>::new(value.ones_like()?)?;
    let (_, tangent) = in_place(&mut u, &Parameter, |u| {
        let ((_, ()), gradient) =
            in_place(&mut tree.clone(), &filter, |tree| Ok(((f(tree)? * u.get()?)?.sum_all()?, ())))?;
        Ok((dot(&gradient, v)?, ()))
    })?;
    let is_alias =
        tree.leaves().iter().any(|(.., leaf)| leaf.value().is_some_and(|own| same_storage(own, &value)));
    Ok((if is_alias { value.copy()? } else { value }, tangent.get()?))
}
