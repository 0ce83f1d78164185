//! Updates times a number that depends on the step.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::engine::{Times, Updates};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_schedule`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByScheduleState {
    /// The number of steps so far: a scalar i64; no leaf where the step size is constant.
    pub count: Option<Count>,
}

/// See [`scale_by_schedule`].
#[derive(Clone, Debug)]
pub struct ScaleBySchedule {
    step_size: Schedule,
}

/// `u = step_size(c) * g`, with `c` the number of steps before this one. It keeps the sign of `step_size`;
/// for a learning rate there is [`scale_by_learning_rate`](crate::scale_by_learning_rate).
#[must_use]
pub fn scale_by_schedule(step_size: impl Into<Schedule>) -> ScaleBySchedule {
    ScaleBySchedule { step_size: step_size.into() }
}

impl GradientTransformation for ScaleBySchedule {
    type State = ScaleByScheduleState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        Ok(ScaleByScheduleState { count: self.step_size.start("step_size")? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        updates.map(Times(self.step_size.step(&mut state.count, "step_size")?), [])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        self.step_size.at(state.count.as_ref(), "step_size").map(StepSize::times)
    }
}
