//! Optimistic gradients.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_finite, zeros_like};
use crate::scalar::Count;
use crate::transformation::GradientTransformation;

/// The state of [`scale_by_optimistic_gradient`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByOptimisticGradientState {
    /// Steps so far: an i64 without dimensions.
    pub count: Count,
    /// The gradients of the step before: the parameters' shapes, f32 (f64 for f64 parameters).
    pub previous_gradient: Leaves,
}

/// See [`scale_by_optimistic_gradient`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByOptimisticGradient {
    alpha: f64,
    beta: f64,
}

/// Adds a step back along the gradient before: `u = (alpha + beta) * g - beta * g_before`, with `alpha = 1`
/// and `beta = 1`. At the first step `g_before` is `g`.
///
/// Mokhtari et al., [A unified analysis of extra-gradient and optimistic gradient methods for saddle point
/// problems](https://arxiv.org/abs/1901.08511), 2019.
#[must_use]
pub fn scale_by_optimistic_gradient() -> ScaleByOptimisticGradient {
    ScaleByOptimisticGradient { alpha: 1., beta: 1. }
}

builder!(ScaleByOptimisticGradient {
    /// How much of the gradient itself there is in the update.
    alpha: f64,
    /// How much of the difference to the gradient before there is in the update.
    beta: f64,
});

impl GradientTransformation for ScaleByOptimisticGradient {
    type State = ScaleByOptimisticGradientState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_finite("alpha", self.alpha)?;
        check_finite("beta", self.beta)?;
        Ok(ScaleByOptimisticGradientState { count: Count::zero()?, previous_gradient: zeros_like(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let is_first = state.count.advance()? == 1;
        updates.map(OptimisticRule { of: self.clone(), is_first }, [&mut state.previous_gradient])
    }
}

/// One step; at the first there is no gradient before.
struct OptimisticRule {
    of: ScaleByOptimisticGradient,
    is_first: bool,
}

impl Rule<1> for OptimisticRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [before]: [N; 1]) -> (N, [N; 1]) {
        let ScaleByOptimisticGradient { alpha, beta } = self.of;
        let before = if self.is_first { g.clone() } else { before };
        (g.clone() * (alpha + beta) - before * beta, [g])
    }
}
