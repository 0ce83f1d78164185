//! Transformations of some of the leaves.

use treex_core::{Filter, LeafRef, Leaves, Result};

use crate::chain::{Chain, chain};
use crate::engine::Updates;
use crate::selection::Selection;
use crate::step_size::StepSize;
use crate::transformation::GradientTransformation;
use crate::transformation::Member;

/// See [`masked`].
#[derive(Clone, Debug)]
pub struct Masked<T> {
    pub(crate) inner: T,
    pub(crate) selection: Selection,
}

/// Transforms the updates that `filter` selects; the others pass unchanged.
///
/// ```
/// use treex_optim::{chain, clip_by_global_norm, masked, prelude::*, sgd};
///
/// // Clips only the gradients of the recurrent kernels; descends along all of them.
/// let clipped = chain((masked(clip_by_global_norm(1.0), path("**.cell.kernel")), sgd(0.1)));
/// # let _ = clipped;
/// ```
///
/// **An unchanged update is a gradient, and is added to its parameter.** `masked(sgd(0.1), filter)` alone
/// ascends along the raw gradient of leaves that `filter` does not select. To leave those leaves unchanged
/// use [`only`], or [`wrt`](crate::Optimizer::wrt) for a whole optimizer; to train them differently use
/// [`partition`](crate::partition).
///
/// The state has no leaves for parameters that are not selected. A filter that selects nothing is an error of
/// `init`. In Optax a mask may also be a tree of booleans.
#[must_use]
pub fn masked<T: GradientTransformation>(inner: T, filter: impl Filter + Send + Sync + 'static) -> Masked<T> {
    Masked { inner, selection: Selection::new(filter) }
}

impl<T: GradientTransformation> GradientTransformation for Masked<T> {
    type State = T::State;

    fn init(&self, params: &Leaves) -> Result<T::State> {
        self.selection.check(params, "`masked`")?;
        self.inner.init(&params.clone().select(&self.selection))
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut T::State) -> Result<Updates<'a>> {
        updates.masked(&self.selection, |selected| self.inner.update(selected, state))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.inner, state)]
    }

    fn step_size(&self, state: &T::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        if self.selection.selects(leaf) { self.inner.step_size(state, leaf) } else { Ok(StepSize::times(1.)) }
    }

    fn eval_params(&self, state: &T::State, params: &Leaves) -> Result<Option<Leaves>> {
        self.inner.eval_params(state, &params.clone().select(&self.selection))
    }
}

/// See [`only`].
#[derive(Clone, Debug)]
pub struct Only<T> {
    inner: T,
    selection: Selection,
}

/// Transforms the updates that `filter` selects, and drops the others: their parameters stay bit-identical.
///
/// A dropped leaf is not part of the step: no member of a chain, before this one or after it, sees its
/// gradient. Optax's `selective_transform` with the complement of the filter. A filter that selects nothing is
/// an error of `init`.
#[must_use]
pub fn only<T: GradientTransformation>(inner: T, filter: impl Filter + Send + Sync + 'static) -> Only<T> {
    Only { inner, selection: Selection::new(filter) }
}

/// Drops the updates that `filter` selects: `only(chain(()), !filter)`. Its position in a chain does not
/// matter. A filter that selects nothing is an error of `init`.
///
/// ```
/// use treex_optim::{adamw, chain, freeze, prelude::*};
///
/// let fine_tuning = chain((freeze(path("encoder.**")), adamw(1e-4)));
/// # let _ = fine_tuning;
/// ```
#[must_use]
pub fn freeze(filter: impl Filter + Send + Sync + 'static) -> Only<Chain<()>> {
    Only { inner: chain(()), selection: Selection::new(filter).complement() }
}

impl<T: GradientTransformation> GradientTransformation for Only<T> {
    type State = T::State;

    fn init(&self, params: &Leaves) -> Result<T::State> {
        self.selection.check(params, "`only` or `freeze`")?;
        self.inner.init(&params.clone().select(&self.selection))
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut T::State) -> Result<Updates<'a>> {
        self.inner.update(updates.only(&self.selection), state)
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.inner, state)]
    }

    fn step_size(&self, state: &T::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        if self.selection.selects(leaf) { self.inner.step_size(state, leaf) } else { Ok(StepSize::dropped()) }
    }

    fn eval_params(&self, state: &T::State, params: &Leaves) -> Result<Option<Leaves>> {
        self.inner.eval_params(state, &params.clone().select(&self.selection))
    }
}
