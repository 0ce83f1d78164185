//! A line search that shortens the step until the loss falls enough.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use super::{Line, add_scaled, excess};
use crate::engine::Updates;
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::step_size::StepSize;
use crate::transform::builder;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_backtracking_linesearch`].
#[derive(Clone, Debug, TreeObject)]
pub struct BacktrackingState {
    /// The step of the last search: a scalar f64, 1 before it.
    pub learning_rate: Scalar,
    /// The loss where it ended: a scalar f64.
    pub value: Scalar,
    /// The number of trials: a scalar i64.
    pub num_linesearch_steps: Count,
    /// The missing decrease of the loss: a scalar f64.
    pub decrease_error: Scalar,
}

/// See [`scale_by_backtracking_linesearch`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByBacktrackingLinesearch {
    max_backtracking_steps: u64,
    slope_rtol: f64,
    decrease_factor: f64,
    increase_factor: f64,
    max_learning_rate: f64,
    atol: f64,
    rtol: f64,
}

/// Scales the updates, which must be a descent direction, by the first of `lr`, `0.8 lr`, `0.64 lr`, .. that
/// decreases the loss `f` enough:
///
/// ```text
/// f(p + lr u) <= (1 + rtol) f(p) + slope_rtol * lr * <u, g> + atol
/// ```
///
/// with `slope_rtol = 1e-4` and tolerances of 0. The first `lr` is 1.5 times the last one that was found, at
/// most `max_learning_rate = 1`. If none of `max_backtracking_steps` decreases it enough the last one is
/// taken, unless the loss is NaN there: then the step is 0.
///
/// Each trial computes a loss. Step with [`Optimizer::minimize`](crate::Optimizer::minimize).
///
/// Nocedal and Wright, *Numerical optimization*, 1999, algorithm 3.1.
#[must_use]
pub fn scale_by_backtracking_linesearch(max_backtracking_steps: u64) -> ScaleByBacktrackingLinesearch {
    ScaleByBacktrackingLinesearch {
        max_backtracking_steps,
        slope_rtol: 1e-4,
        decrease_factor: 0.8,
        increase_factor: 1.5,
        max_learning_rate: 1.,
        atol: 0.,
        rtol: 0.,
    }
}

builder!(ScaleByBacktrackingLinesearch {
    /// The required fraction of the decrease that the slope predicts.
    slope_rtol: f64,
    /// The factor between one trial and the next.
    decrease_factor: f64,
    /// The factor between the result of a search and the first trial of the next.
    increase_factor: f64,
    /// The largest trial.
    max_learning_rate: f64,
    /// The absolute tolerance of the decrease.
    atol: f64,
    /// The tolerance relative to the loss.
    rtol: f64,
});

impl GradientTransformation for ScaleByBacktrackingLinesearch {
    type State = BacktrackingState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        Ok(BacktrackingState {
            learning_rate: Scalar::new(1.)?,
            value: Scalar::new(f64::INFINITY)?,
            num_linesearch_steps: Count::zero()?,
            decrease_error: Scalar::new(f64::INFINITY)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let extra = updates.extra();
        Ok(updates.tensors(move |updates, params| {
            let line = Line::new(params, &updates, extra)?;
            let mut rate = (self.increase_factor * state.learning_rate.get()?).min(self.max_learning_rate);
            let (mut value, mut error) = (line.value, f64::INFINITY);
            state.num_linesearch_steps = Count::zero()?;
            for trial in 0..=self.max_backtracking_steps {
                if trial > 0 {
                    rate *= self.decrease_factor;
                }
                (value, _) = (line.value_fn)(&add_scaled(params, rate, &updates)?)?;
                error = excess(value - (1. + self.rtol) * line.value - rate * self.slope_rtol * line.slope);
                state.num_linesearch_steps.advance()?;
                if error <= self.atol {
                    break;
                }
            }
            if error.is_infinite() {
                rate = 0.;
            }
            state.learning_rate.set(rate)?;
            state.value.set(value)?;
            state.decrease_error.set(error)?;
            updates.apply(|update| Ok((update * rate)?))
        }))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    /// The search decides.
    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::unknown())
    }
}
