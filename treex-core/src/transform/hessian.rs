//! Second derivatives: products of the Hessian with a vector, and the Hessian itself.

use candle_core::Tensor;

use crate::deep;
use crate::error::{Error, Result};
use crate::transform::auxiliary::{Aux as _, detach_tree};
use crate::transform::grad::in_place;
use crate::transform::scope::Scope;
use crate::transform::vjp::jacobian_of;
use crate::tree::filter::Filter;
use crate::tree::object::TreeObject;
use crate::tree::path::Path;
use crate::tree::walk::{try_walk_mut, walk};

/// The loss, its gradient `g`, and the product `H v` of its Hessian with a vector, at `tree` with respect to the selected
/// leaves: the derivative of `g` in the direction `v`. As `jax.jvp(jax.value_and_grad(f), (tree,), (v,))`, but by two
/// backward passes.
///
/// `v` is a tree of the same structure, a gradient for instance; leaves that are not selected are not read. `f` gets a
/// scratch copy of `tree`. Needs [`enable_nested_gradients`](crate::enable_nested_gradients).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, enable_nested_gradients, hvp};
///
/// enable_nested_gradients()?;
/// let leaf = |x: &[f64]| Leaf::<Parameter>::new(Tensor::new(x, &Device::Cpu)?);
/// let (x, v) = (leaf(&[1., 2.])?, leaf(&[1., 10.])?);
/// let (loss, g, hv) = hvp(&x, Parameter, |x| Ok(x.get()?.powf(3.)?.sum_all()?), &v)?;
/// assert_eq!(loss.to_scalar::<f64>()?, 9.);
/// assert_eq!(g.get()?.to_vec1::<f64>()?, [3., 12.]);
/// assert_eq!(hv.get()?.to_vec1::<f64>()?, [6., 120.]); // 6 x v
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`value_and_grad`](crate::value_and_grad); a selected leaf without a value of its shape in `v`; an operation whose
/// gradient cannot be differentiated.
pub fn hvp<T>(
    tree: &T,
    filter: impl Filter,
    f: impl FnOnce(&mut T) -> Result<Tensor>,
    v: &T,
) -> Result<(Tensor, T, T)>
where
    T: TreeObject + Clone,
{
    let (mut products, start) = (None, deep::mark());
    let result = in_place(&mut tree.clone(), &filter, |tree| {
        let ((loss, ()), gradient) = in_place(tree, &filter, |tree| Ok((f(tree)?, ())))?;
        let product = dot(&gradient, v)?;
        products = Some((loss, gradient));
        Ok((product, ()))
    });
    // They hold the graph.
    deep::with_room(start, move || {
        let products = products.ok_or_else(|| Error::argument("the function did not run"));
        let ((_, hv), (mut loss, mut gradient)) = (result?, products?);
        // Constants, but for an outer function on which they depend.
        let unowned = |value: &Tensor| Scope::owner_of(value).is_none().then(|| value.detach());
        loss.detach_where(&unowned);
        detach_tree(&mut gradient, &unowned);
        Ok((loss, gradient, hv))
    })
}

/// The sum of the products of the values of `x` with those of `v`, over the leaves that have one in `x`.
pub(crate) fn dot<T: TreeObject + Clone>(x: &T, v: &T) -> Result<Tensor> {
    let mut others = Vec::new();
    walk(v, |_, _, leaf| others.push(leaf));
    let (mut others, mut sum) = (others.into_iter(), None::<Tensor>);
    try_walk_mut(&mut x.clone(), |_, _, leaf| {
        let other = others.next();
        let Some(x) = leaf.tracked_value() else { return Ok(()) };
        let v = other.and_then(|other| other.tracked_value()).filter(|v| v.shape() == x.shape()).ok_or_else(
            || {
                let found = other.and_then(|other| other.shape());
                Error::shape("the vector does not fit the tree")
                    .expected(format!("a value of shape {:?}", x.dims()))
                    .found(found.map_or("none".to_owned(), |shape| format!("shape {:?}", shape.dims())))
            },
        )?;
        let term = (x * v.to_dtype(x.dtype())?)?.sum_all()?;
        sum = Some(match sum.take() {
            Some(sum) => (&sum + term.to_dtype(sum.dtype())?)?,
            None => term,
        });
        Ok(())
    })?;
    sum.ok_or_else(|| Error::argument("the tree has no value to multiply"))
}

/// The Hessian of a loss at a tree; see [`hessian`].
#[derive(Clone, Debug)]
pub struct Hessian<T> {
    /// Each selected leaf with its path and number of elements.
    leaves: Vec<(Path, usize)>,
    /// Leaves of shape `[n, leaf..]`, where `n` counts the elements of all selected leaves.
    rows: T,
}

/// The Hessian of `f` at `tree` with respect to the selected leaves: `jax.hessian`. It takes one backward pass for each
/// element of the leaves, and memory for the square of their number. `f` gets a scratch copy of `tree`. Needs
/// [`enable_nested_gradients`](crate::enable_nested_gradients).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, enable_nested_gradients, hessian};
///
/// enable_nested_gradients()?;
/// let leaf = |x: f64| Leaf::<Parameter>::new(Tensor::new(&[x], &Device::Cpu)?);
/// let tree = (leaf(2.)?, leaf(5.)?);
/// let hessian = hessian(&tree, Parameter, |(a, b)| Ok((a.get()?.sqr()? * b.get()?)?.sum_all()?))?;
/// assert_eq!(hessian.matrix()?.to_vec2::<f64>()?, [[10., 4.], [4., 0.]]); // of a² b
/// assert_eq!(hessian.rows_of("0")?.1.get()?.to_vec2::<f64>()?, [[4.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`hvp`].
pub fn hessian<T>(
    tree: &T,
    filter: impl Filter,
    f: impl FnOnce(&mut T) -> Result<Tensor>,
) -> Result<Hessian<T>>
where
    T: TreeObject + Clone,
{
    let mut leaves = Vec::new();
    let rows = jacobian_of(tree, &filter, |tree| {
        let ((loss, ()), gradient) = in_place(tree, &filter, |tree| Ok((f(tree)?, ())))?;
        flat(&gradient, &loss, &mut leaves)
    })?;
    Ok(Hessian { leaves, rows })
}

/// All values in one dimension, in the type of `like`; their paths and lengths go to `leaves`.
fn flat<T: TreeObject>(tree: &T, like: &Tensor, leaves: &mut Vec<(Path, usize)>) -> Result<Tensor> {
    let mut values = Vec::new();
    walk(tree, |path, _, leaf| {
        if let Some(value) = leaf.tracked_value() {
            leaves.push((Path::from(path), value.elem_count()));
            values.push(value.flatten_all().and_then(|value| value.to_dtype(like.dtype())));
        }
    });
    Ok(Tensor::cat(&values.into_iter().collect::<candle_core::Result<Vec<_>>>()?, 0)?)
}

impl<T: TreeObject + Clone> Hessian<T> {
    /// The symmetric matrix `[n, n]`, rows and columns in the order of the leaves.
    ///
    /// # Errors
    /// If Candle cannot allocate it.
    pub fn matrix(&self) -> Result<Tensor> {
        let mut columns = Vec::new();
        let flat = |value: &Tensor| value.reshape((value.dim(0)?, value.elem_count() / value.dim(0)?.max(1)));
        walk(&self.rows, |_, _, leaf| columns.extend(leaf.tracked_value().map(flat)));
        let columns = columns.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
        let dtype = columns.first().map(Tensor::dtype);
        let columns = columns.iter().map(|column| column.to_dtype(dtype.unwrap_or(column.dtype())));
        Ok(Tensor::cat(&columns.collect::<candle_core::Result<Vec<_>>>()?, 1)?)
    }

    /// The blocks in the rows of the leaf at `path`: a tree in which each leaf has the shape `[m, leaf..]`, where `m` counts
    /// the elements of the leaf at `path`.
    ///
    /// # Errors
    /// If `path` is not that of a selected leaf.
    pub fn rows_of(&self, path: &str) -> Result<T> {
        let names: Vec<_> = self.leaves.iter().map(|(path, _)| path.to_string()).collect();
        let Some(at) = names.iter().position(|name| name == path) else {
            let known = crate::nearest::nearest(path, names.iter().map(String::as_str));
            return Err(Error::argument(format!("the Hessian has no leaf `{path}`"))
                .expected("the path of a selected leaf")
                .found(format!("{} other leaves{known}", names.len())));
        };
        let start = self.leaves[..at].iter().map(|(_, len)| len).sum();
        let len = self.leaves[at].1;
        let mut rows = self.rows.clone();
        try_walk_mut(&mut rows, |_, kind, leaf| {
            if !leaf.is_nothing() {
                let part = leaf.get(kind)?.narrow(0, start, len)?;
                leaf.replace(crate::tree::handle::Handle::from_copy(&part)?);
            }
            Ok(())
        })?;
        Ok(rows)
    }
}
