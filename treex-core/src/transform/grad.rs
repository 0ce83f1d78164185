//! Gradients: trees of the model's type.
//!
//! **Law: tracking.** A leaf takes part in differentiation only inside these functions and only if it was
//! selected; everywhere else `get` returns a detached tensor. What was not selected costs no backward
//! pass.
//!
//! A step: the selected leaves are recorded and get the scope; the closure runs, in which selected leaves return
//! tracked tensors; the backward pass runs from the loss; the scope closes; the gradients are written at the
//! positions of the leaves, into a tree in which everything else is `Nothing`.

use std::sync::Arc;

use candle_core::{Tensor, Var};

use crate::autograd::nested;
use crate::error::{Error, Result};
use crate::transform::auxiliary::{Aux, detach_unowned};
use crate::transform::differentiation::{Differentiation, all_frozen, select};
use crate::transform::scope::Scope;
use crate::tree::filter::{Described, Filter, LeafRef};
use crate::tree::flat::Layout;
use crate::tree::kind::TreePart;
use crate::tree::object::TreeObject;
use crate::tree::walk::{attach_path, try_walk_mut, walk, walk_mut};

/// The value of `f` at `tree` and its gradient with respect to every differentiable leaf of `tree` that is not frozen,
/// as a tree of the same type: `jax.value_and_grad(f)(tree)`.
///
/// `f` gets a scratch copy of `tree`, mutable because modules are called by `&mut self`. State that it writes is
/// dropped with the copy; [`Tree::value_and_grad`](crate::Tree::value_and_grad) keeps it.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, value_and_grad};
///
/// let x = Leaf::<Parameter>::new(Tensor::new(3f32, &Device::Cpu)?)?;
/// let (y, dx) = value_and_grad(&x, |x| Ok(x.get()?.sqr()?))?;
/// assert_eq!((y.to_scalar::<f32>()?, dx.get()?.to_scalar::<f32>()?), (9., 6.));
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// The error of `f`; a loss that is not a scalar; a tree without a differentiable leaf; an uninitialized
/// leaf. The tree is unchanged.
pub fn value_and_grad<T>(tree: &T, f: impl FnOnce(&mut T) -> Result<Tensor>) -> Result<(Tensor, T)>
where
    T: TreeObject + Clone,
{
    let ((loss, ()), grads) = value_and_grad_aux(tree, |tree| Ok((f(tree)?, ())))?;
    Ok((loss, grads))
}

/// [`value_and_grad`] of a function with auxiliary outputs: `jax.value_and_grad(f, has_aux=True)(tree)`. They are constants:
/// see [`Aux`].
///
/// # Errors
/// As [`value_and_grad`].
pub fn value_and_grad_aux<T, A>(
    tree: &T,
    f: impl FnOnce(&mut T) -> Result<(Tensor, A)>,
) -> Result<((Tensor, A), T)>
where
    T: TreeObject + Clone,
    A: Aux,
{
    let mut tracked = tree.clone();
    let differentiation = Differentiation::start(&mut tracked, &TreePart)?;
    let result = differentiation.forward(|| f(&mut tracked));
    differentiation.scope.with_room(|| {
        let result = result.map_err(|error| attach_path(&tracked, error));
        drop(tracked);
        let (loss, mut aux) = result?;
        let (value, grads) = differentiation.finish(&loss, tree.clone())?;
        detach_unowned(&mut aux, &differentiation);
        drop(loss);
        Ok(((value, aux), grads))
    })
}

/// The gradient alone: `jax.grad(f)(tree)`.
///
/// # Errors
/// As [`value_and_grad`].
pub fn grad<T>(tree: &T, f: impl FnOnce(&mut T) -> Result<Tensor>) -> Result<T>
where
    T: TreeObject + Clone,
{
    Ok(value_and_grad(tree, f)?.1)
}

/// See [`Tree::value_and_grad_aux`](crate::Tree::value_and_grad_aux).
///
/// A snapshot from before the closure serves three purposes: it restores the model on failure, it detects a change of
/// structure, and the gradients are written into it.
pub(crate) fn in_place<T, A>(
    model: &mut T,
    filter: &impl Filter,
    f: impl FnOnce(&mut T) -> Result<(Tensor, A)>,
) -> Result<((Tensor, A), T)>
where
    T: TreeObject + Clone,
    A: Aux,
{
    let rollback = Rollback { before: Some(model.clone()), model };
    let differentiation = Differentiation::start(rollback.model, filter)?;
    let result = differentiation.forward(|| f(rollback.model));
    differentiation.scope.with_room(|| {
        let (rollback, differentiation) = (rollback, &differentiation);
        let (loss, mut aux) = result.map_err(|error| attach_path(rollback.model, error))?;
        Layout::of(rollback.before()).check(rollback.model, "the model after the closure")?;
        let (value, grads) = differentiation.finish(&loss, rollback.before().clone())?;
        rollback.succeed(differentiation);
        detach_unowned(&mut aux, differentiation);
        drop(loss);
        Ok(((value, aux), grads))
    })
}

/// Restores the model unless the closure succeeded, also after a panic.
struct Rollback<'m, T: TreeObject + Clone> {
    model: &'m mut T,
    before: Option<T>,
}

impl<T: TreeObject + Clone> Rollback<'_, T> {
    fn before(&self) -> &T {
        self.before.as_ref().unwrap_or(self.model)
    }

    /// Removes the scope from the leaves that carry it. A leaf with a variable of the scope gets back what the variable
    /// stands for, if an outer scope tracks it; the leaf may be another one than before.
    fn succeed(mut self, differentiation: &Differentiation) {
        let Some(before) = self.before.take() else { return };
        let mut previous = Vec::new();
        walk(&before, |_, _, leaf| previous.push(leaf));
        let mut next = 0;
        walk_mut(self.model, |_, _, leaf| {
            let at = next;
            next += 1;
            if !leaf.scope().is_some_and(|own| Arc::ptr_eq(own, &differentiation.scope)) {
                return;
            }
            let position = leaf.scoped_value().and_then(|value| differentiation.position_of(value, at));
            match position.map(|position| previous[position]) {
                Some(outer) if outer.is_tracked() => leaf.replace(outer.clone()),
                _ => leaf.release_graph(),
            }
        });
    }
}

impl<T: TreeObject + Clone> Drop for Rollback<'_, T> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            *self.model = before;
        }
    }
}

/// See [`Tree::tracked`](crate::Tree::tracked). The scope stays open as long as a leaf carries it.
pub(crate) fn tracked<T: TreeObject + Clone>(tree: &T, filter: &impl Filter) -> Result<T> {
    let mut tracked = tree.clone();
    select(&mut tracked, filter, nested::next_instance(), &Scope::open_for_candle())?;
    Ok(tracked)
}

/// See [`Tree::vars`](crate::Tree::vars).
pub(crate) fn vars<T: TreeObject>(tree: &mut T, filter: &impl Filter) -> Result<Vec<Var>> {
    let (mut vars, mut frozen) = (Vec::new(), 0);
    try_walk_mut(tree, |path, kind, leaf| {
        if leaf.is_nothing() || !filter.selects(&LeafRef::new(path, kind, leaf)) {
            return Ok(());
        }
        if leaf.is_frozen() {
            frozen += 1;
        } else {
            vars.push(leaf.var(kind)?);
        }
        Ok(())
    })?;
    if vars.is_empty() && frozen > 0 {
        return Err(all_frozen(filter, frozen));
    }
    if vars.is_empty() {
        let message = format!("`{}` selects no leaf that holds a value", Described(filter));
        return Err(
            Error::argument(message).remedy("`tabulate` shows the paths, kinds and values of the tree")
        );
    }
    Ok(vars)
}
