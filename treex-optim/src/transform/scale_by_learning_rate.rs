//! The learning rate, and the minus of gradient descent.

use treex_core::{Leaves, Result, TreeObject};

use crate::count::Count;
use crate::engine::Updates;
use crate::schedule::Schedule;
use crate::transform::scale::Times;
use crate::transformation::{Extra, GradientTransformation};

/// The state of [`scale_by_learning_rate`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByLearningRateState {
    /// Steps so far: an i64 without dimensions; no leaf where the rate is constant.
    pub count: Option<Count>,
}

/// See [`scale_by_learning_rate`].
#[derive(Clone, Debug)]
pub struct ScaleByLearningRate {
    learning_rate: Schedule,
}

/// `u = -lr(c) * g`, with `c` the number of steps before this one: the first step uses `lr(0)`.
///
/// This is the one place where the sign turns, so it ends a chain. A negative rate goes uphill, as in Optax; one
/// that is not finite is an error.
#[must_use]
pub fn scale_by_learning_rate(learning_rate: impl Into<Schedule>) -> ScaleByLearningRate {
    ScaleByLearningRate { learning_rate: learning_rate.into() }
}

impl GradientTransformation for ScaleByLearningRate {
    type State = ScaleByLearningRateState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        self.learning_rate.check("learning_rate")?;
        let count = if self.learning_rate.is_constant() { None } else { Some(Count::zero()?) };
        Ok(ScaleByLearningRateState { count })
    }

    fn update<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut Self::State,
        _params: &Leaves,
        _extra: &Extra,
    ) -> Result<Updates<'a>> {
        let rate = self.learning_rate.at(state.count.as_ref(), "learning_rate")?;
        if let Some(count) = &mut state.count {
            count.advance()?;
        }
        updates.map(Times(-rate), [])
    }

    fn learning_rate(&self, state: &Self::State) -> Result<Option<f64>> {
        self.learning_rate.at(state.count.as_ref(), "learning_rate").map(Some)
    }
}
