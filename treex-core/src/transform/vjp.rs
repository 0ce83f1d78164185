//! Vector-Jacobian products: backward passes from given cotangents.

use std::fmt;
use std::slice;

use candle_core::{Device, Tensor};

use crate::autograd::{OwnedStorage, attach};
use crate::error::{Error, ErrorKind, Result};
use crate::transfers::transfer;
use crate::transform::differentiation::Differentiation;
use crate::transform::pull_back::Root;
use crate::transform::scope::Scope;
use crate::transform::stack::stack;
use crate::tree::filter::Filter;
use crate::tree::handle::Handle;
use crate::tree::object::TreeObject;
use crate::tree::walk::{attach_path, try_walk_mut};

/// The value of `f` at `tree`, and the function that pulls a cotangent of the value back to the selected leaves: `jax.vjp`.
/// `f` gets a scratch copy of `tree`, as in [`value_and_grad`](crate::value_and_grad).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, vjp};
///
/// let x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let (y, pullback) = vjp(&x, Parameter, |x| Ok(x.get()?.sqr()?))?;
/// assert_eq!(y.to_vec1::<f32>()?, [1., 4., 9.]);
/// let cotangent = Tensor::new(&[1f32, 0., 10.], &Device::Cpu)?;
/// assert_eq!(pullback.call(&cotangent)?.get()?.to_vec1::<f32>()?, [2., 0., 60.]); // 2 x · cotangent
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// The error of `f`; a filter that selects nothing differentiable; a value that is not of floats.
pub fn vjp<T>(
    tree: &T,
    filter: impl Filter,
    f: impl FnOnce(&mut T) -> Result<Tensor>,
) -> Result<(Tensor, Pullback<T>)>
where
    T: TreeObject + Clone,
{
    vjp_of(tree, &filter, f)
}

fn vjp_of<T>(
    tree: &T,
    filter: &impl Filter,
    f: impl FnOnce(&mut T) -> Result<Tensor>,
) -> Result<(Tensor, Pullback<T>)>
where
    T: TreeObject + Clone,
{
    let mut tracked = tree.clone();
    let mut differentiation = Differentiation::start(&mut tracked, filter)?;
    let value = differentiation.forward(|| f(&mut tracked));
    let value = differentiation.scope.with_room(|| {
        let value = value.map_err(|error| attach_path(&tracked, error));
        drop(tracked);
        value
    })?;
    differentiation.pause();
    let mut pullback = Pullback { differentiation, tree: tree.clone(), value };
    let Pullback { differentiation, value, .. } = &mut pullback;
    if !value.dtype().is_float() {
        return Err(Error::new(ErrorKind::DType, "the value of the function cannot be differentiated")
            .expected("floats")
            .found(format!("`{}`", value.dtype().as_str()))
            .remedy("return what the argument of floats is computed from"));
    }
    // A constant, but for an outer function on which it depends.
    let is_constant = Scope::among(differentiation.scope.others(), value).is_empty();
    let handed_out = if is_constant { differentiation.of_its_own(value)? } else { value.clone() };
    Ok((handed_out, pullback))
}

/// See [`vjp`]. It holds the graph of the function, and may be called any number of times.
pub struct Pullback<T> {
    differentiation: Differentiation,
    tree: T,
    value: Tensor,
}

impl<T: TreeObject + Clone> Pullback<T> {
    /// The gradient of the sum of `value · cotangent`: a tree with a value for each selected leaf, and `Nothing` elsewhere.
    ///
    /// # Errors
    /// If `cotangent` has another shape or element type than the value; what the backward pass reports.
    pub fn call(&self, cotangent: &Tensor) -> Result<T> {
        let (value, describe) =
            (&self.value, |x: &Tensor| format!("{:?} of `{}`", x.dims(), x.dtype().as_str()));
        if value.shape() != cotangent.shape() || value.dtype() != cotangent.dtype() {
            return Err(Error::shape("the cotangent does not fit the value of the function")
                .expected(describe(value))
                .found(describe(cotangent)));
        }
        let root = Root(vec![Some(cotangent.clone())]);
        let root = attach(root, slice::from_ref(&value), OwnedStorage::placeholder(value.device())?)?;
        let gradients = self
            .differentiation
            .scope
            .with_room(|| self.differentiation.backward(&root, Some(cotangent), false))?;
        self.differentiation.write(gradients, self.tree.clone())
    }
}

impl<T> Drop for Pullback<T> {
    fn drop(&mut self) {
        let constant = self.value.detach();
        let value = std::mem::replace(&mut self.value, constant);
        self.differentiation.scope.with_room(|| drop(value));
    }
}

impl<T> fmt::Debug for Pullback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pullback(from {:?})", self.value.shape())
    }
}

/// The Jacobian of `f` at `tree`: a tree in which each selected leaf has the shape `[value.., leaf..]`, where `value` is the
/// shape of what `f` returns: `jax.jacrev`. One backward pass for each element of the value.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, jacobian};
///
/// let x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2.], &Device::Cpu)?)?;
/// let matrix = jacobian(&x, Parameter, |x| Ok(Tensor::cat(&[x.get()?.sqr()?, x.get()?], 0)?))?;
/// assert_eq!(matrix.get()?.to_vec2::<f32>()?, [[2., 0.], [0., 4.], [1., 0.], [0., 1.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`vjp`].
pub fn jacobian<T>(tree: &T, filter: impl Filter, f: impl FnOnce(&mut T) -> Result<Tensor>) -> Result<T>
where
    T: TreeObject + Clone,
{
    jacobian_of(tree, &filter, f)
}

/// [`jacobian`] by a filter that is used again.
pub(crate) fn jacobian_of<T>(
    tree: &T,
    filter: &impl Filter,
    f: impl FnOnce(&mut T) -> Result<Tensor>,
) -> Result<T>
where
    T: TreeObject + Clone,
{
    let (value, pullback) = vjp_of(tree, filter, f)?;
    let count = value.elem_count();
    let unit = |at: usize| -> Result<T> {
        let mut cotangent = vec![0f32; count];
        cotangent[at] = 1.;
        let cotangent = Tensor::from_vec(cotangent, value.shape(), &Device::Cpu)?.to_dtype(value.dtype())?;
        pullback.call(&transfer(&cotangent, value.device(), "compute Jacobians outside of the step")?)
    };
    let mut rows = (0..count).map(unit).collect::<Result<Vec<_>>>()?;
    if rows.is_empty() {
        rows.push(pullback.call(&value)?); // for the shapes of the leaves
    }
    let mut matrix = stack(&rows)?;
    try_walk_mut(&mut matrix, |_, kind, leaf| {
        if !leaf.is_nothing() {
            let rows = leaf.get(kind)?;
            let shape = [value.dims(), &rows.dims()[1..]].concat();
            leaf.replace(Handle::from_copy(&rows.narrow(0, 0, count)?.reshape(shape)?)?);
        }
        Ok(())
    })?;
    Ok(matrix)
}
