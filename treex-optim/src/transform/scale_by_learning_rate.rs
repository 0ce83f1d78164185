//! The learning rate, and the minus sign of gradient descent.

use treex_core::{LeafRef, Leaves, Result};

use crate::engine::{Times, Updates};
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::scale_by_schedule::ScaleByScheduleState;
use crate::transformation::{GradientTransformation, Member};

/// See [`scale_by_learning_rate`].
#[derive(Clone, Debug)]
pub struct ScaleByLearningRate {
    learning_rate: Schedule,
    flip_sign: bool,
}

/// `u = -lr(c) * g`, with `c` the number of steps before this one: the first step uses `lr(0)`. Its state is
/// that of [`scale_by_schedule`](crate::scale_by_schedule).
///
/// This is the one place where the sign is flipped, so put it last in a chain; without `flip_sign`, `u =
/// lr(c) * g`. A negative rate ascends, as in Optax; a rate that is not finite is an error. Optax's `None`
/// for a rate also keeps the sign; omit this transformation instead.
#[must_use]
pub fn scale_by_learning_rate(learning_rate: impl Into<Schedule>) -> ScaleByLearningRate {
    ScaleByLearningRate { learning_rate: learning_rate.into(), flip_sign: true }
}

builder!(ScaleByLearningRate {
    /// Whether to flip the sign, for descent. Default: true.
    flip_sign: bool,
});

impl GradientTransformation for ScaleByLearningRate {
    type State = ScaleByScheduleState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        Ok(ScaleByScheduleState { count: self.learning_rate.start("learning_rate")? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let rate = self.learning_rate.step(&mut state.count, "learning_rate")?;
        updates.map(Times(if self.flip_sign { -rate } else { rate }), [])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        self.learning_rate.at(state.count.as_ref(), "learning_rate").map(StepSize::learning_rate)
    }
}
