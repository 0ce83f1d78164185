//! Momentum.

use candle_core::DType;
use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_finite, check_float, zeros_in};
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`trace`].
#[derive(Clone, Debug, TreeObject)]
pub struct TraceState {
    /// The decaying sum of updates: the parameters' shapes, f32 (f64 for f64 parameters), or
    /// `accumulator_dtype`.
    pub trace: Leaves,
}

/// See [`trace`].
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub(crate) decay: f64,
    pub(crate) nesterov: bool,
    accumulator_dtype: Option<DType>,
}

/// A decaying sum of updates, the momentum of stochastic gradient descent:
///
/// ```text
/// trace = g + decay * trace
/// u     = trace                   g + decay * trace with nesterov
/// ```
///
/// It is a sum, not an average: a constant gradient grows to `g / (1 - decay)`. The same as PyTorch's
/// momentum without dampening. The sum is f32 for narrower parameters, where Optax keeps the parameters'
/// type; `accumulator_dtype` overrides this, and rounds only the state.
#[must_use]
pub fn trace(decay: f64) -> Trace {
    Trace { decay, nesterov: false, accumulator_dtype: None }
}

builder!(Trace {
    /// The decay rate of the sum.
    decay: f64,
    /// Whether to use Nesterov momentum. Default: false.
    nesterov: bool,
    /// The element type of the sum.
    accumulator_dtype: impl Into<Option<DType>>,
});

impl GradientTransformation for Trace {
    type State = TraceState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_finite("decay", self.decay)?;
        check_float("accumulator_dtype", self.accumulator_dtype)?;
        Ok(TraceState { trace: zeros_in(params, self.accumulator_dtype)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        updates.map(self.clone(), [&mut state.trace])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::times(1.))
    }
}

impl Rule<1> for Trace {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [trace]: [N; 1]) -> (N, [N; 1]) {
        let trace = g.clone() + trace * self.decay;
        let u = if self.nesterov { g + trace.clone() * self.decay } else { trace.clone() };
        (u, [trace])
    }
}
