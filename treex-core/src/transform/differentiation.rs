//! One differentiation: which leaves were selected, and what their gradients are.

use std::sync::Arc;

use candle_core::{Tensor, Var};

use crate::autograd::{accumulate, nested, producers};
use crate::error::{Error, ErrorKind, Result};
use crate::id_map::IdSet;
use crate::nearest::no_leaf;
use crate::tensors::{storage_id, storage_len};
use crate::transform::pull_back::through_links;
use crate::transform::scope::{Link, Scope};
use crate::tree::filter::{Described, Filter, LeafRef};
use crate::tree::handle::Handle;
use crate::tree::object::TreeObject;
use crate::tree::walk::try_walk_mut;

/// A running differentiation: its scope, and the variable of each selected leaf by position.
pub(crate) struct Differentiation {
    pub(crate) scope: Arc<Scope>,
    vars: Vec<Option<Var>>,
    /// Whether it is inside of another on this thread.
    is_nested: bool,
    /// The number of the first operation made inside of the function.
    first: u64,
    recording: Option<producers::Recording>,
}

/// Closes the scope, also after an error or a panic.
impl Drop for Differentiation {
    fn drop(&mut self) {
        self.scope.close();
    }
}

/// What a backward pass returns.
pub(crate) struct Gradients {
    /// By position; `None` for a leaf that was not reached, or not selected.
    pub(crate) by_leaf: Vec<Option<Tensor>>,
    /// The outermost other scope on which they depend.
    outer: Option<Arc<Scope>>,
}

impl Differentiation {
    /// Gives each selected leaf of `tree` a variable of its own, and opens a scope over these.
    pub(crate) fn start<T: TreeObject>(tree: &mut T, filter: &impl Filter) -> Result<Self> {
        let first = nested::next_instance();
        let scope = Scope::open(IdSet::default());
        let vars = select(tree, filter, first, &scope)?;
        let is_nested = producers::is_recording();
        Ok(Self { scope, vars, is_nested, first, recording: Some(producers::Recording::start()) })
    }

    /// Runs the function that is differentiated.
    pub(crate) fn forward<R>(&self, f: impl FnOnce() -> R) -> R {
        nested::forward(self.is_nested, f)
    }

    /// Ends the function, where the backward pass comes later, perhaps on another thread.
    pub(crate) fn pause(&mut self) {
        self.recording = None;
    }

    /// Runs the backward pass from `loss`, closes the scope and writes the gradients into `tree`, a tree of the same
    /// structure.
    pub(crate) fn finish<T: TreeObject>(&self, loss: &Tensor, tree: T) -> Result<(Tensor, T)> {
        check_loss(loss)?;
        let gradients = self.backward(loss, None, true)?;
        self.check_reached(loss, &gradients)?;
        self.scope.close();
        // The loss stays tracked for an outer scope that it depends on.
        let loss = if gradients.outer.is_some() { loss.clone() } else { self.of_its_own(loss)? };
        Ok((loss, self.write(gradients, tree)?))
    }

    /// Runs a backward pass from the scalar `root`. Where `root` depends on the variables of other open scopes, so do the
    /// gradients, and they stay in the graph; `cotangent` is what they are multiplied by, if it is not in the graph of
    /// `root`. A pass that `is_last` frees what operations saved, if no other scope may need it.
    pub(crate) fn backward(
        &self,
        root: &Tensor,
        cotangent: Option<&Tensor>,
        is_last: bool,
    ) -> Result<Gradients> {
        let others = self.scope.others();
        let is_last = is_last && others.is_empty();
        let of_cotangent =
            cotangent.and_then(|cotangent| Scope::among(others.clone(), cotangent).into_iter().next());
        let owners = Scope::among(others, root);
        let outer = owners.first().cloned().or(of_cotangent);
        let vars = self.vars.iter().flatten().map(Var::as_tensor);
        let links = self.scope.links();
        let selected = if outer.is_none() && links.is_empty() {
            accumulate::gradients(root, vars, is_last)?
        } else {
            let (value, vars) = (root.clone(), vars.cloned().collect::<Vec<_>>());
            let pass = move || through_links(&value, &vars, &links);
            if outer.is_some() {
                let scope = Arc::clone(&self.scope);
                nested::backward(self.first, root.device(), move || scope.with_room(pass))?
            } else {
                pass()?
            }
        };
        if let Some(outer) = &outer {
            self.retire(outer);
        }
        // The function in which this gradient is used.
        if let Some(owner) = owners.last().filter(|_| selected.iter().flatten().any(Tensor::track_op)) {
            owner.note_inner_gradient();
        }
        let mut selected = selected.into_iter();
        let by_leaf = self.vars.iter().map(|var| var.as_ref().and_then(|_| selected.next().flatten()));
        Ok(Gradients { by_leaf: by_leaf.collect(), outer })
    }

    /// Writes `gradients` into `tree`: zeros for selected leaves that were not reached, `Nothing` for the others.
    pub(crate) fn write<T: TreeObject>(&self, gradients: Gradients, mut tree: T) -> Result<T> {
        let Gradients { by_leaf, outer } = gradients;
        let mut leaves = self.vars.iter().zip(by_leaf);
        try_walk_mut(&mut tree, |_, _, leaf| {
            *leaf = match leaves.next() {
                Some((_, Some(gradient))) => {
                    let scope = outer.clone().filter(|_| gradient.track_op());
                    let mut leaf = Handle::from_shared(gradient);
                    leaf.set_scope(scope);
                    leaf
                }
                Some((Some(var), None)) => Handle::from_shared(var.zeros_like()?),
                _ => Handle::nothing(),
            };
            Ok(())
        })?;
        Ok(tree)
    }

    /// Lets no other scope use these variables while `outer` is open, in which values that depend on them stay tracked.
    pub(crate) fn retire(&self, outer: &Scope) {
        outer.retire(self.vars.iter().flatten().map(|var| var.id()));
    }

    /// `value`, detached, in memory that no later step writes: a value may be a parameter itself.
    pub(crate) fn of_its_own(&self, value: &Tensor) -> Result<Tensor> {
        let (value, id, len) = (value.detach(), storage_id(value), storage_len(value));
        let is_alias = |var: &Var| len.is_none_or(|len| len == var.elem_count()) && storage_id(var) == id;
        Ok(if self.vars.iter().flatten().any(is_alias) { value.copy()? } else { value })
    }

    /// The position of the selected leaf whose variable this is, mostly `likely`.
    pub(crate) fn position_of(&self, variable: &Tensor, likely: usize) -> Option<usize> {
        let is_it = |var: &Option<Var>| var.as_ref().is_some_and(|var| var.id() == variable.id());
        if self.vars.get(likely).is_some_and(is_it) {
            return Some(likely);
        }
        self.vars.iter().position(is_it)
    }

    /// Whether the leaf at each position was selected.
    pub(crate) fn is_selected(&self) -> impl Iterator<Item = bool> {
        self.vars.iter().map(Option::is_some)
    }

    /// A loss that depends on no selected leaf is an error, unless a derivative inside of the function is a constant, a
    /// product with 0 or a function with steps cut the graph where the gradient is truly zero, or a leaf is empty.
    fn check_reached(&self, loss: &Tensor, gradients: &Gradients) -> Result<()> {
        let is_cut = || !loss.track_op() || loss.sorted_nodes().iter().any(|node| node.is_variable());
        if gradients.by_leaf.iter().any(Option::is_some)
            || self.scope.has_constant_inner_gradients()
            || !is_cut()
        {
            return Ok(());
        }
        if self.vars.iter().flatten().any(|var| var.elem_count() == 0) {
            return Ok(());
        }
        let count = self.vars.iter().flatten().count();
        Err(Error::new(ErrorKind::Gradient, "the loss does not depend on any selected leaf")
            .expected(format!("a loss computed from what `get` returns for at least one of {count} leaves"))
            .remedy(
                "call the model that the closure receives; look for `detach`, `leaf.set(..)`, `leaves()`, values computed \
                 outside of the closure, and operations without a gradient such as `argmax`: `x.track_op()` turns false there",
            ))
    }
}

/// Gives each selected leaf a variable of its own in `scope`, a new one that `number` identifies. Returns them by position.
/// A leaf that an outer scope tracks is linked to its value there.
pub(crate) fn select<T: TreeObject>(
    tree: &mut T,
    filter: &impl Filter,
    number: u64,
    scope: &Arc<Scope>,
) -> Result<Vec<Option<Var>>> {
    let (mut selected, mut vars, mut frozen) = (Vec::new(), Vec::new(), 0);
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
        let var = leaf.var_of_its_own(kind, scope)?;
        if let Some(value) = value {
            Scope::link(&Link { scope: number, variable: var.as_tensor().clone(), value })?;
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
        let known = no_leaf(tree, filter).found_text().map(str::to_owned).unwrap_or_default();
        return Err(Error::argument(message).found(known).remedy(
            "select leaves of kind `Parameter` that hold floats: `model.value_and_grad(Parameter, ...)`",
        ));
    }
    Handle::track_all(selected, scope);
    Ok(vars)
}

/// The error if all selected leaves are frozen.
pub(crate) fn all_frozen(filter: &impl Filter, count: usize) -> Error {
    let message =
        format!("nothing to differentiate by: all leaves that `{}` selects are frozen", Described(filter));
    Error::new(ErrorKind::Frozen, message)
        .found(format!("{count} frozen leaves"))
        .remedy("call `model.unfreeze(filter)?` for those to train")
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
