//! Accumulators for the gradients of variables, apart from Candle's `GradStore`.
//!
//! Candle's store starts each gradient with zeros and adds to a copy. In a backward pass that treex starts,
//! operations of treex add the gradient of a variable to an accumulator here instead, which takes the first one as it
//! is. In any other backward pass no accumulator is active, and gradients go to Candle's store.

use std::cell::RefCell;

use candle_core::{Tensor, TensorId};

use super::nested::saved;
use super::sum::GradientSum;
use crate::error::Result;
use crate::id_map::IdMap;

struct Accumulators {
    by_variable: IdMap<TensorId, GradientSum>,
    is_last: bool,
}

thread_local! {
    /// Those of the innermost backward pass of this thread.
    static ACCUMULATORS: RefCell<Option<Accumulators>> = const { RefCell::new(None) };
}

/// Runs `f` with other accumulators active, or none; returns them with what was added.
fn active<R>(sums: Option<Accumulators>, f: impl FnOnce() -> R) -> (R, Option<Accumulators>) {
    /// Restores the outer accumulators, also after a panic.
    struct Restore(Option<Accumulators>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACCUMULATORS.replace(self.0.take());
        }
    }
    let restore = Restore(ACCUMULATORS.replace(sums));
    let result = f();
    let sums = ACCUMULATORS.take();
    drop(restore);
    (result, sums)
}

/// The gradient of `loss` with respect to each variable; `None` where `loss` does not depend on it. A
/// pass that `is_last` frees the tensors that operations saved.
pub(crate) fn gradients<'v>(
    loss: &Tensor,
    variables: impl Iterator<Item = &'v Tensor> + Clone,
    is_last: bool,
) -> Result<Vec<Option<Tensor>>> {
    let mut by_variable = IdMap::with_capacity_and_hasher(variables.clone().count(), Default::default());
    by_variable.extend(variables.clone().map(|variable| (variable.id(), GradientSum::default())));
    let (store, sums) = active(Some(Accumulators { by_variable, is_last }), || loss.backward());
    let (mut store, mut sums) = (store?, sums.map(|sums| sums.by_variable).unwrap_or_default());
    let gradient = |variable: &Tensor| {
        let mut sum = sums.remove(&variable.id()).unwrap_or_default();
        if let Some(candle) = store.remove(variable) {
            sum.add(saved(&candle))?;
        }
        sum.finish()
    };
    variables.map(gradient).collect()
}

/// Runs `f`, which may start a backward pass of its own, with no accumulator active.
pub(super) fn disarmed<R>(f: impl FnOnce() -> R) -> R {
    active(None, f).0
}

/// Adds to the accumulator of a variable. Without one, returns the gradient for Candle's store.
pub(super) fn accumulate(variable: &Tensor, gradient: Tensor) -> candle_core::Result<Option<Tensor>> {
    ACCUMULATORS.with_borrow_mut(|active| {
        let Some(sum) = active.as_mut().and_then(|sums| sums.by_variable.get_mut(&variable.id())) else {
            return Ok(Some(gradient));
        };
        sum.add(gradient)?;
        Ok(None)
    })
}

/// Whether no other backward pass through this graph will follow.
pub(super) fn is_last_pass() -> bool {
    ACCUMULATORS.with_borrow(|active| active.as_ref().is_some_and(|sums| sums.is_last))
}
