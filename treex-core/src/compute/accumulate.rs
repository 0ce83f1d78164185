//! Gradients where they end: sums of what reaches a variable, apart from Candle's store.
//!
//! Candle's store starts each gradient with zeros and adds to a copy. In a backward pass that treex starts,
//! operations of treex put the gradient of a variable here instead, where the first one is taken as it is. In
//! any other backward pass nothing is armed, and gradients go to whoever asked for them.

use std::cell::RefCell;

use candle_core::{Tensor, TensorId};

use super::ids::IdMap;
use super::sum::sum_of_gradients;
use crate::error::Result;

struct Sums {
    by_variable: IdMap<TensorId, Option<Tensor>>,
    is_last: bool,
}

thread_local! {
    /// The sums of the innermost backward pass of this thread.
    static ARMED: RefCell<Option<Sums>> = const { RefCell::new(None) };
}

/// Runs `f` with other sums armed, or none; hands out what has come together.
fn armed<R>(sums: Option<Sums>, f: impl FnOnce() -> R) -> (R, Option<Sums>) {
    /// Puts the outer sums back, after a panic too.
    struct Restore(Option<Sums>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ARMED.replace(self.0.take());
        }
    }
    let restore = Restore(ARMED.replace(sums));
    let result = f();
    let sums = ARMED.take();
    drop(restore);
    (result, sums)
}

/// The gradient of `loss` with respect to each variable, detached; `None` where it does not depend on it. After
/// a pass that `is_last`, operations have let go what they had kept.
pub(crate) fn gradients<'v>(
    loss: &Tensor,
    variables: impl Iterator<Item = &'v Tensor> + Clone,
    is_last: bool,
) -> Result<Vec<Option<Tensor>>> {
    let by_variable = variables.clone().map(|variable| (variable.id(), None)).collect();
    let (store, sums) = armed(Some(Sums { by_variable, is_last }), || loss.backward());
    let (mut store, mut sums) = (store?, sums.map(|sums| sums.by_variable).unwrap_or_default());
    let gradient = |variable: &Tensor| {
        let own = sums.get_mut(&variable.id()).and_then(Option::take);
        Ok(match (own, store.remove(variable)) {
            (Some(own), Some(candle)) => Some(sum_of_gradients(&own, &candle.detach())?),
            (own, candle) => own.or(candle.map(|candle| candle.detach())),
        })
    };
    variables.map(gradient).collect()
}

/// Runs `f`, which may go backward by itself, with nothing armed.
pub(super) fn disarmed<R>(f: impl FnOnce() -> R) -> R {
    armed(None, f).0
}

/// Adds to the gradient of a variable, or gives it back for Candle's store.
pub(super) fn deposit(variable: &Tensor, gradient: Tensor) -> candle_core::Result<Option<Tensor>> {
    ARMED.with_borrow_mut(|armed| {
        let Some(sum) = armed.as_mut().and_then(|sums| sums.by_variable.get_mut(&variable.id())) else {
            return Ok(Some(gradient));
        };
        *sum = Some(match sum.take() {
            Some(sum) => sum_of_gradients(&sum, &gradient)?,
            None => gradient,
        });
        Ok(None)
    })
}

/// Whether nobody will go backward through this graph again.
pub(super) fn is_last_pass() -> bool {
    ARMED.with_borrow(|armed| armed.as_ref().is_some_and(|sums| sums.is_last))
}
