//! Runs what a chain asked for: rules that follow each other in one pass over memory, in place.
//!
//! A pass reads each gradient, parameter and state tensor once and writes what changed once. Sums over leaves
//! and functions of whole tensors end a pass, and nothing else does.

use std::collections::VecDeque;

use candle_core::{DType, Device, Tensor};
use treex_core::compute::is_plain;
use treex_core::{Handle, Leaves, Result};

use super::rule::{AnyTerms, Terms, TypedTerms};
use super::updates::{Mask, OfTensors, Op, Rules, Sums, Updates, Work};
use super::{host, plain};

/// What the updates are for.
pub(crate) enum Target<'t> {
    /// The parameters of a model, by position, to which they are added.
    Model(Vec<&'t mut Handle>),
    /// Nobody yet: they are handed out. The parameters are read.
    Updates(&'t Leaves),
}

impl Target<'_> {
    /// The parameter at a position.
    pub(crate) fn param(&self, index: usize) -> Option<&Tensor> {
        match self {
            Self::Model(handles) => handles[index].value(),
            Self::Updates(params) => params.get(index),
        }
    }

    /// [`Handle::storage`] of the parameter at a position.
    pub(crate) fn storage(&self, index: usize) -> Option<usize> {
        match self {
            Self::Model(handles) => handles[index].storage(),
            Self::Updates(params) => params.storage(index),
        }
    }
}

/// Rules that run in one pass, with their state and where they apply.
pub(crate) struct Ready<'a> {
    pub(crate) on: Mask,
    pub(crate) rules: Rules,
    pub(crate) state: Vec<&'a mut Leaves>,
}

/// Does all that was asked for. `release` is called when nothing can fail any more but for want of memory: who
/// lets go there of another copy of the state has this one written in place.
///
/// Returns the updates, if the target does not take them.
pub(crate) fn run(
    updates: Updates<'_>,
    mut target: Target<'_>,
    release: impl FnOnce(),
) -> Result<Option<Leaves>> {
    let Updates { incoming, params, present, ops, .. } = updates;
    // From here on the model is the only holder of its cells.
    drop(params);
    let fast = is_fast(&incoming);
    let mut ops = VecDeque::from(ops);
    let mut current = incoming;
    let mut release = Some(release);
    let mut ready: Vec<Ready<'_>> = Vec::new();
    loop {
        while let Some(Op { work: Work::Rules { .. }, .. }) = ops.front() {
            if let Some(Op { on, work: Work::Rules { rules, state } }) = ops.pop_front() {
                ready.push(Ready { on, rules, state });
            }
        }
        let fallible = ops.iter().any(|op| matches!(op.work, Work::Tensors(_)));
        if !fallible && let Some(release) = release.take() {
            release();
        }
        let pass = |current: &Leaves, ready: Vec<Ready<'_>>, goal: Goal<'_>, target: &mut Target<'_>| {
            if fast {
                host::pass(current, &present, ready, goal, target)
            } else {
                plain::pass(current, &present, ready, goal, target)
            }
        };
        match ops.pop_front() {
            None => {
                let keep = matches!(target, Target::Updates(_));
                let goal = if keep { Goal::Updates } else { Goal::Params };
                let found = pass(&current, ready, goal, &mut target)?;
                if !keep {
                    return Ok(None);
                }
                let updates = found.updates.unwrap_or(current);
                return updates
                    .rebuild(|index| Ok(updates.get(index).filter(|_| present[index]).cloned()))
                    .map(Some);
            }
            Some(Op { on, work: Work::Measured { terms, then, state } }) => {
                let found =
                    pass(&current, std::mem::take(&mut ready), Goal::Sums(&*terms, &on), &mut target)?;
                current = found.updates.unwrap_or(current);
                let rules = then(found.sums)?;
                ready.push(Ready { on, rules, state });
            }
            Some(Op { on, work: Work::Tensors(f) }) => {
                let found = pass(&current, std::mem::take(&mut ready), Goal::Updates, &mut target)?;
                current = found.updates.unwrap_or(current);
                current = through(&current, &present, &on, f, &target)?;
            }
            Some(Op { work: Work::Rules { .. }, .. }) => {}
        }
    }
}

impl Updates<'_> {
    /// Runs what was recorded, and returns the updates: for use without an
    /// [`Optimizer`](crate::Optimizer).
    ///
    /// # Errors
    /// If leaves do not fit together, and what a recorded function reports.
    pub fn compute(self) -> Result<Leaves> {
        let params = self.params.clone();
        Ok(run(self, Target::Updates(&params), || {})?.unwrap_or(params))
    }
}

/// Sums over the positions that two trees share, at once.
pub(crate) fn sum<S: Terms<M>, const M: usize>(terms: S, updates: &Leaves, params: &Leaves) -> Result<Sums> {
    updates.check_aligned(params, "the other flat tree")?;
    let both = |index| updates.get(index).is_some() && params.get(index).is_some();
    let on: Mask = (0..updates.len()).map(both).collect();
    let (terms, mut target) = (TypedTerms(terms), Target::Updates(params));
    let pass = if is_fast(updates) { host::pass } else { plain::pass };
    Ok(pass(updates, &on, Vec::new(), Goal::Sums(&terms, &on), &mut target)?.sums)
}

/// Whether the loops over memory can run.
fn is_fast(updates: &Leaves) -> bool {
    !is_plain() && updates.tensors().all(|tensor| matches!(tensor.device(), Device::Cpu))
}

/// Applies a function of tensors where it is on.
fn through(
    current: &Leaves,
    present: &[bool],
    on: &Mask,
    f: OfTensors<'_>,
    target: &Target<'_>,
) -> Result<Leaves> {
    let seen = |index: usize| on[index] && present[index];
    let wide = |index: usize| -> Option<DType> {
        let u = current.get(index).filter(|_| seen(index))?;
        Some(plain::wide(u, target.param(index).unwrap_or(u)))
    };
    let cast = |index: usize, tensor: Option<&Tensor>| -> Result<Option<Tensor>> {
        Ok(wide(index).zip(tensor).map(|(dtype, tensor)| tensor.detach().to_dtype(dtype)).transpose()?)
    };
    let updates = current.rebuild(|index| cast(index, current.get(index)))?;
    let params = current.rebuild(|index| cast(index, target.param(index)))?;
    let changed = f(updates, &params)?;
    current.check_aligned(&changed, "what a transformation returned")?;
    current.rebuild(|index| Ok(if on[index] { changed.get(index) } else { current.get(index) }.cloned()))
}

/// What a pass is to leave behind.
#[derive(Clone, Copy)]
pub(crate) enum Goal<'g> {
    /// New parameters.
    Params,
    /// Updates.
    Updates,
    /// Updates, and sums over them.
    Sums(&'g dyn AnyTerms, &'g Mask),
}

/// What a pass has left behind.
#[derive(Default)]
pub(crate) struct Found {
    /// `None` if they are what came in.
    pub(crate) updates: Option<Leaves>,
    pub(crate) sums: Sums,
}
