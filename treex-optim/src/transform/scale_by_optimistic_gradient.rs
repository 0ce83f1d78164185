//! Optimistic gradients.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_finite, zeros_like};
use crate::scalar::Count;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_optimistic_gradient`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByOptimisticGradientState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The gradients of the previous step: the parameters' shapes, f32 (f64 for f64 parameters).
    pub previous_gradient: Leaves,
}

/// See [`scale_by_optimistic_gradient`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByOptimisticGradient {
    alpha: f64,
    beta: f64,
}

/// Adds a step back along the previous gradient: `u = (alpha + beta) * g - beta * g_before`, with `alpha = 1`
/// and `beta = 1`. At the first step `g_before` is `g`.
///
/// Mokhtari et al., [A unified analysis of extra-gradient and optimistic gradient methods for saddle point
/// problems](https://arxiv.org/abs/1901.08511), 2019.
#[must_use]
pub fn scale_by_optimistic_gradient() -> ScaleByOptimisticGradient {
    ScaleByOptimisticGradient { alpha: 1., beta: 1. }
}

builder!(ScaleByOptimisticGradient {
    /// The weight of the gradient.
    alpha: f64,
    /// The weight of the difference to the previous gradient.
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

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step; the first has no previous gradient.
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
