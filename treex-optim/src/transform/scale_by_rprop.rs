//! Rprop's steps.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_at_least, check_not_negative, full_like, zeros_like};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_rprop`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByRpropState {
    /// The step sizes: the parameters' shapes, f32 (f64 for f64 parameters).
    pub step_sizes: Leaves,
    /// The previous updates: as `step_sizes`.
    pub prev_updates: Leaves,
}

/// See [`scale_by_rprop`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByRprop {
    learning_rate: f64,
    eta_minus: f64,
    eta_plus: f64,
    min_step_size: f64,
    max_step_size: f64,
    lagged: bool,
}

/// A step size for each element, which grows while the gradient keeps its sign and shrinks when it changes:
///
/// ```text
/// s    = g * before
/// step = clip(step * eta_plus, min, max)          where s > 0
///        clip(step * eta_minus, min, max)         where s < 0
///        step                                     where s = 0
/// u    = 0 where s < 0, elsewhere step * sign(g);         before = u
/// ```
///
/// with `step = learning_rate` before the first step, `eta_minus = 0.5`, `eta_plus = 1.2`, `min_step_size =
/// 1e-6` and `max_step_size = 50`. As PyTorch's `Rprop`. Optax returns the update of the *previous* step
/// where `s` is not negative, so that its first update is zero and every other is one step late;
/// `lagged(true)` does the same.
///
/// Riedmiller and Braun, [A direct adaptive method for faster backpropagation learning: the Rprop
/// algorithm](https://ieeexplore.ieee.org/document/298623), 1993; Igel and Hüsken, [Empirical evaluation of
/// the improved Rprop learning algorithms](https://doi.org/10.1016/S0925-2312(01)00700-7), 2003, whose
/// iRprop- this is.
#[must_use]
pub fn scale_by_rprop(learning_rate: f64) -> ScaleByRprop {
    ScaleByRprop {
        learning_rate,
        eta_minus: 0.5,
        eta_plus: 1.2,
        min_step_size: 1e-6,
        max_step_size: 50.,
        lagged: false,
    }
}

builder!(ScaleByRprop {
    /// The factor by which a step shrinks.
    eta_minus: f64,
    /// The factor by which a step grows.
    eta_plus: f64,
    /// The smallest step.
    min_step_size: f64,
    /// The largest step.
    max_step_size: f64,
    /// Whether updates are one step late, as in Optax. Default: false.
    lagged: bool,
});

impl GradientTransformation for ScaleByRprop {
    type State = ScaleByRpropState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_not_negative("learning_rate", self.learning_rate)?;
        check_not_negative("eta_minus", self.eta_minus)?;
        check_not_negative("eta_plus", self.eta_plus)?;
        check_not_negative("min_step_size", self.min_step_size)?;
        check_at_least("max_step_size", self.max_step_size, self.min_step_size)?;
        Ok(ScaleByRpropState {
            step_sizes: full_like(params, self.learning_rate)?,
            prev_updates: zeros_like(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        updates.map(self.clone(), [&mut state.step_sizes, &mut state.prev_updates])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

impl Rule<2> for ScaleByRprop {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [step, before]: [N; 2]) -> (N, [N; 2]) {
        let zero = || N::constant(0.);
        let clip = |x: N| x.max(N::constant(self.min_step_size)).min(N::constant(self.max_step_size));
        let s = g.clone() * before.clone();
        let (grown, shrunk) = (clip(step.clone() * self.eta_plus), clip(step.clone() * self.eta_minus));
        let step = zero().if_less(s.clone(), grown, s.clone().if_less(zero(), shrunk, step));
        let new = s.clone().if_less(zero(), zero(), step.clone() * g.sign());
        let u = if self.lagged { s.if_less(zero(), zero(), before) } else { new.clone() };
        (u, [step, new])
    }
}
