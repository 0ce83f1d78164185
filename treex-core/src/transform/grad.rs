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

use crate::autograd::{accumulate, nested, producers};
use crate::error::{Error, ErrorKind, Result};
use crate::id_map::IdSet;
use crate::transform::pull_back::through_links;
use crate::transform::scope::{Link, Scope};
use crate::tree::filter::{Described, Filter, LeafRef};
use crate::tree::flat::Layout;
use crate::tree::handle::Handle;
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

/// [`value_and_grad`] of a function with auxiliary outputs: `jax.value_and_grad(f, has_aux=True)(tree)`.
///
/// # Errors
/// As [`value_and_grad`].
pub fn value_and_grad_aux<T, A>(
    tree: &T,
    f: impl FnOnce(&mut T) -> Result<(Tensor, A)>,
) -> Result<((Tensor, A), T)>
where
    T: TreeObject + Clone,
{
    let mut tracked = tree.clone();
    let differentiation = Differentiation::start(&mut tracked, &TreePart)?;
    let (loss, aux) = nested::forward(differentiation.is_nested, || f(&mut tracked))
        .map_err(|error| attach_path(&tracked, error))?;
    drop(tracked);
    let (loss, grads) = differentiation.finish(&loss, tree.clone())?;
    Ok(((loss, aux), grads))
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
{
    let rollback = Rollback { before: Some(model.clone()), model };
    let differentiation = Differentiation::start(rollback.model, filter)?;
    let (loss, aux) = nested::forward(differentiation.is_nested, || f(rollback.model))
        .map_err(|error| attach_path(rollback.model, error))?;
    Layout::of(rollback.before()).check(rollback.model, "the model after the closure")?;
    let (loss, grads) = differentiation.finish(&loss, rollback.before().clone())?;
    rollback.succeed(&differentiation.scope);
    Ok(((loss, aux), grads))
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

    /// Removes the scope from the leaves that carry it, and restores that of an outer scope.
    fn succeed(mut self, scope: &Arc<Scope>) {
        let Some(before) = self.before.take() else { return };
        let mut previous = Vec::new();
        walk(&before, |_, _, leaf| previous.push(leaf));
        let mut previous = previous.into_iter();
        walk_mut(self.model, |_, _, leaf| {
            let before = previous.next();
            if leaf.scope().is_some_and(|own| Arc::ptr_eq(own, scope)) {
                match before {
                    Some(outer) if outer.is_tracked() && leaf.is_variable() => *leaf = outer.clone(),
                    _ => leaf.release_graph(),
                }
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

/// Gives each selected leaf a variable of its own and opens a scope over these. Returns them by position.
/// A leaf that an outer scope tracks is linked to its value there; `number` identifies the new scope.
fn select<T: TreeObject>(
    tree: &mut T,
    filter: &impl Filter,
    number: u64,
) -> Result<(Arc<Scope>, Vec<Option<Var>>)> {
    let (mut selected, mut vars, mut taken) = (Vec::new(), Vec::new(), IdSet::default());
    let mut frozen = 0;
    try_walk_mut(tree, |path, kind, leaf| {
        let differentiable = kind.is_differentiable() && leaf.dtype().is_none_or(|dtype| dtype.is_float());
        let chosen = differentiable && !leaf.is_nothing() && filter.selects(&LeafRef::new(path, kind, leaf));
        let wanted = chosen && !leaf.is_frozen();
        frozen += usize::from(chosen && leaf.is_frozen());
        if !wanted {
            vars.push(None);
            return Ok(());
        }
        let value = leaf.tracked_value().filter(|value| leaf.is_tracked() && value.track_op()).cloned();
        let var = leaf.var_of_its_own(kind, &mut taken)?;
        if let Some(value) = value {
            Scope::link(&Link { scope: number, variable: var.as_tensor().clone(), value });
        }
        vars.push(Some(var));
        selected.push(leaf);
        Ok(())
    })?;
    if selected.is_empty() && frozen > 0 {
        return Err(all_frozen(filter, frozen));
    }
    if selected.is_empty() {
        let message =
            format!("nothing to differentiate by: `{}` selects no differentiable leaf", Described(filter));
        return Err(Error::argument(message).remedy(
            "select leaves of kind `Parameter` that hold floats: `model.value_and_grad(Parameter, ...)`",
        ));
    }
    let scope = Scope::open(taken);
    Handle::track_all(selected, &scope);
    Ok((scope, vars))
}

/// The error if all selected leaves are frozen.
fn all_frozen(filter: &impl Filter, count: usize) -> Error {
    let message =
        format!("nothing to differentiate by: all leaves that `{}` selects are frozen", Described(filter));
    Error::new(ErrorKind::Frozen, message)
        .found(format!("{count} frozen leaves"))
        .remedy("call `model.unfreeze(filter)?` for those to train")
}

/// A running differentiation: its scope, and the variable of each selected leaf by position.
struct Differentiation {
    scope: Arc<Scope>,
    vars: Vec<Option<Var>>,
    /// Whether it is inside of another on this thread.
    is_nested: bool,
    /// The number of the first operation made inside of the function.
    first: u64,
    _recording: producers::Recording,
}

/// Closes the scope, also after an error or a panic.
impl Drop for Differentiation {
    fn drop(&mut self) {
        self.scope.close();
    }
}

impl Differentiation {
    fn start<T: TreeObject>(tree: &mut T, filter: &impl Filter) -> Result<Self> {
        let first = nested::next_instance();
        let (scope, vars) = select(tree, filter, first)?;
        let is_nested = producers::is_recording();
        Ok(Self { scope, vars, is_nested, first, _recording: producers::Recording::start() })
    }

    /// Runs the backward pass from `loss`, closes the scope and writes the gradients into `tree`, a tree of the same
    /// structure; everything else in it becomes `Nothing`. Where the loss depends on the variables of other open scopes,
    /// so do the gradients, and they stay tracked there.
    fn finish<T: TreeObject>(&self, loss: &Tensor, mut tree: T) -> Result<(Tensor, T)> {
        check_loss(loss)?;
        let others = self.scope.others();
        let is_alone = others.is_empty();
        let outer = Scope::among(others, loss).into_iter().next();
        let gradients = self.gradients(loss, outer.is_some(), is_alone)?;
        self.scope.close();
        let (mut vars, mut gradients) = (self.vars.iter(), gradients.into_iter());
        try_walk_mut(&mut tree, |_, _, leaf| {
            *leaf = match vars.next() {
                Some(Some(var)) => match gradients.next().flatten() {
                    Some(gradient) => {
                        let is_tracked = gradient.track_op();
                        let mut leaf = Handle::from_shared(gradient);
                        leaf.set_scope(outer.clone().filter(|_| is_tracked));
                        leaf
                    }
                    None => Handle::from_shared(var.zeros_like()?),
                },
                _ => Handle::nothing(),
            };
            Ok(())
        })?;
        // The loss stays tracked for an outer scope that it depends on.
        let loss = if outer.is_some() { loss.clone() } else { loss.detach() };
        Ok((loss, tree))
    }

    /// The gradients by selected leaf; in the graph if `stays_tracked`.
    fn gradients(&self, loss: &Tensor, stays_tracked: bool, is_alone: bool) -> Result<Vec<Option<Tensor>>> {
        let vars = self.vars.iter().flatten().map(Var::as_tensor);
        let links = self.scope.links();
        if !stays_tracked && links.is_empty() {
            return accumulate::gradients(loss, vars, is_alone);
        }
        let vars: Vec<_> = vars.cloned().collect();
        if !stays_tracked {
            return through_links(loss, &vars, &links);
        }
        let loss = loss.clone();
        nested::backward(self.first, move || through_links(&loss, &vars, &links))
    }
}

fn check_loss(loss: &Tensor) -> Result<()> {
    if loss.rank() != 0 {
        return Err(Error::shape("the loss is not a scalar")
            .expected("shape []")
            .found(format!("shape {:?}", loss.dims()))
            .remedy("reduce it, for instance with `loss.mean_all()?`"));
    }
    if !loss.dtype().is_float() {
        return Err(Error::new(ErrorKind::DType, "the loss cannot be differentiated")
            .expected("a float")
            .found(format!("`{}`", loss.dtype().as_str())));
    }
    Ok(())
}

/// See [`Tree::tracked`](crate::Tree::tracked). The scope stays open as long as a leaf carries it.
pub(crate) fn tracked<T: TreeObject + Clone>(tree: &T, filter: &impl Filter) -> Result<T> {
    let mut tracked = tree.clone();
    select(&mut tracked, filter, nested::next_instance())?;
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
        return Err(Error::argument(format!("`{}` selects no leaf that holds a value", Described(filter))));
    }
    Ok(vars)
}
