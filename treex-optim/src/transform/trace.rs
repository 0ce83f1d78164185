//! Momentum.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_finite, zeros_like};
use crate::transformation::{Extra, GradientTransformation};

/// The state of [`trace`].
#[derive(Clone, Debug, TreeObject)]
pub struct TraceState {
    /// The decaying sum of updates: the parameters' shapes, f32 (f64 for f64 parameters).
    pub trace: Leaves,
}

/// See [`trace`].
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub(crate) decay: f64,
    pub(crate) nesterov: bool,
}

/// A decaying sum of updates, the momentum of stochastic gradient descent:
///
/// ```text
/// trace = g + decay * trace
/// u     = trace                   g + decay * trace with nesterov
/// ```
///
/// It is a sum, not an average: a constant gradient grows to `g / (1 - decay)`. As PyTorch's momentum without
/// dampening. The sum is f32 for narrower parameters, where Optax keeps the parameters' type.
#[must_use]
pub fn trace(decay: f64) -> Trace {
    Trace { decay, nesterov: false }
}

impl Trace {
    /// Whether the update looks one step ahead, after Nesterov; not by default.
    #[must_use]
    pub fn nesterov(self, nesterov: bool) -> Self {
        Self { nesterov, ..self }
    }
}

impl GradientTransformation for Trace {
    type State = TraceState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_finite("decay", self.decay)?;
        Ok(TraceState { trace: zeros_like(params)? })
    }

    fn update<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut Self::State,
        _params: &Leaves,
        _extra: &Extra,
    ) -> Result<Updates<'a>> {
        updates.map(self.clone(), [&mut state.trace])
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
