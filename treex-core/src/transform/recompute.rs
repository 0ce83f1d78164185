//! Recomputation in the backward pass, for [`remat`](crate::remat) and [`scan`](crate::scan).

use std::cell::Cell;

use candle_core::{Tensor, Var};

use crate::autograd::{is_reference, with_reference};
use crate::error::{Error, ErrorKind, Result};
use crate::transform::scope::Scope;
use crate::tree::flat::Layout;
use crate::tree::handle::Handle;
use crate::tree::object::TreeObject;
use crate::tree::path::Path;
use crate::tree::walk::{attach_path, walk, walk_mut};

/// A model without its tracked tensors, and whether its operations ran their reference compositions.
#[derive(Clone)]
pub(crate) struct Recompute<M> {
    pub(crate) model: M,
    tracked: Vec<bool>,
    reference: bool,
}

impl<M: TreeObject + Clone> Recompute<M> {
    /// The model, untracked, and the tensors of its tracked leaves.
    pub(crate) fn of(model: &M) -> (Self, Vec<Tensor>) {
        let (mut model, mut tracked, mut tensors) = (model.clone(), Vec::new(), Vec::new());
        walk_mut(&mut model, |_, _, leaf| {
            let tensor = leaf.tracked_value().filter(|tensor| leaf.is_tracked() && tensor.track_op());
            tracked.push(tensor.is_some());
            tensors.extend(tensor.cloned());
            leaf.set_scope(None);
        });
        (Self { model, tracked, reference: is_reference() }, tensors)
    }

    /// The same for another model with the same leaves.
    pub(crate) fn with_model(&self, model: M) -> Self {
        Self { model, tracked: self.tracked.clone(), reference: self.reference }
    }

    /// Runs `f` on the model, with `tensors` as the values of its tracked leaves; `f` is differentiated by `others` too.
    pub(crate) fn run<R>(
        &self,
        tensors: &[Tensor],
        others: &[&[Tensor]],
        f: impl FnOnce(&mut M) -> Result<R>,
    ) -> Result<R> {
        let mut model = self.model.clone();
        let scope = Scope::open(others.iter().copied().flatten().chain(tensors).map(Tensor::id).collect());
        let (mut tracked, mut tensors) = (self.tracked.iter(), tensors.iter());
        walk_mut(&mut model, |_, _, leaf| {
            if tracked.next() == Some(&true)
                && let Some(tensor) = tensors.next()
            {
                leaf.replace(Handle::from_shared(tensor.clone()));
                leaf.set_scope(Some(scope.clone()));
            }
        });
        let result = if self.reference { with_reference(|| f(&mut model)) } else { f(&mut model) };
        if scope.has_linked() {
            return Err(Error::new(
                ErrorKind::Gradient,
                "a gradient inside of a scan or a rematerialization is differentiated",
            )
            .remedy("write the loop out, without `scan` and `remat`"));
        }
        result.map_err(|error| attach_path(&model, error))
    }

    /// Runs `f` untracked on `model`, from which this was made. In place, since a summary finds modules by their
    /// address. Tracked leaves are tracked again afterwards, with their values. `model` is unchanged if `f` fails.
    pub(crate) fn untracked<R>(&self, model: &mut M, f: impl FnOnce(&mut M) -> Result<R>) -> Result<R> {
        let before = model.clone();
        walk_mut(model, |_, _, leaf| leaf.set_scope(None));
        let result = f(model).and_then(|result| {
            Layout::of(&before).check(model, "the model after the function")?;
            Ok(result)
        });
        if result.is_err() {
            *model = before;
            return result;
        }
        let mut handles = Vec::new();
        walk(&before, |_, _, leaf| handles.push(leaf));
        let (mut leaves, mut written) = (handles.into_iter().zip(&self.tracked), None);
        walk_mut(model, |path, _, leaf| {
            if let Some((before, true)) = leaves.next() {
                if leaf.cell() != before.cell() {
                    written.get_or_insert_with(|| Path::from(path));
                }
                *leaf = before.clone();
            }
        });
        match written {
            None => result,
            Some(path) => {
                *model = before;
                Err(written_parameter().at(path))
            }
        }
    }
}

/// The steps are recomputed with the parameters from before, so a parameter that a step writes would have a wrong gradient.
fn written_parameter() -> Error {
    Error::new(ErrorKind::Gradient, "a step of `scan` or `remat` writes a leaf by which it is differentiated")
        .remedy("return the new value, for the next step in the carry")
}

/// Whether a function captured a tensor that an open scope tracks: its arguments are detached, and yet a result depends on one.
#[derive(Debug, Default)]
pub(crate) struct Captured(Cell<bool>);

impl Captured {
    /// Notes it, and ends the function by an error that is not reported.
    pub(crate) fn check<'t>(&self, mut results: impl Iterator<Item = &'t Tensor>) -> Result<()> {
        if results.any(|result| result.track_op() && Scope::owner_of(result).is_some()) {
            self.0.set(true);
            return Err(Error::new(ErrorKind::Gradient, "a function captured a tensor that is tracked")
                .remedy("give it as a part of the model or as an input"));
        }
        Ok(())
    }

    /// Whether one was found.
    pub(crate) fn is_some(&self) -> bool {
        self.0.get()
    }
}

/// A variable with the values of `tensor`: itself, if it is one.
pub(crate) fn variable(tensor: &Tensor) -> Result<Tensor> {
    if tensor.is_variable() || !tensor.dtype().is_float() {
        return Ok(tensor.clone());
    }
    Ok(Var::from_tensor(&tensor.detach())?.into_inner())
}
