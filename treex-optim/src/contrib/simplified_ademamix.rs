//! Simplified AdEMAMix.

use treex_core::{Leaves, Result, TreeObject};

use crate::chain::{Chain, chain};
use crate::engine::{Number, Rule, Updates};
use crate::numerics::{bias_correction, check_decay, check_not_negative, zeros_like};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::builder;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_simplified_ademamix`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleBySimplifiedAdemamixState {
    /// The number of steps so far: a scalar i64.
    pub t: Count,
    /// The decaying sum of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub m: Leaves,
    /// The average of their squares: as `m`.
    pub n: Leaves,
}

/// See [`scale_by_simplified_ademamix`].
#[derive(Clone, Debug)]
pub struct ScaleBySimplifiedAdemamix {
    b1: f64,
    b2: f64,
    alpha: Schedule,
    eps: f64,
    eps_root: f64,
}

/// [`scale_by_ademamix`](crate::scale_by_ademamix) with one buffer for both averages:
///
/// ```text
/// m = b1 m + g     n = b2 n + (1 - b2) g^2
/// u = (m + alpha g) / (sqrt(n / (1 - b2^t) + eps_root) + eps)
/// ```
///
/// with `b1 = 0.99`, `b2 = 0.95`, `alpha = 0`, `eps = 1e-8` and `eps_root = 0`. As `m` is a sum, rates are
/// about a hundredth of Adam's.
///
/// Morwani et al., [Connections between schedule-free optimizers, AdEMAMix, and accelerated SGD
/// variants](https://arxiv.org/abs/2502.02431), 2025.
#[must_use]
pub fn scale_by_simplified_ademamix() -> ScaleBySimplifiedAdemamix {
    ScaleBySimplifiedAdemamix { b1: 0.99, b2: 0.95, alpha: Schedule::from(0.), eps: 1e-8, eps_root: 0. }
}

builder!(ScaleBySimplifiedAdemamix {
    /// The decay rate of the sum of the gradients.
    b1: f64,
    /// The decay rate of the average of the squares.
    b2: f64,
    /// The additional weight of the current gradient.
    alpha: impl Into<Schedule>,
    /// Added to the denominator.
    eps: f64,
    /// Added inside the square root.
    eps_root: f64,
});

impl GradientTransformation for ScaleBySimplifiedAdemamix {
    type State = ScaleBySimplifiedAdemamixState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        self.alpha.check("alpha")?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        Ok(ScaleBySimplifiedAdemamixState {
            t: Count::zero()?,
            m: zeros_like(params)?,
            n: zeros_like(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let alpha = self.alpha.at(Some(&state.t), "alpha")?;
        let n_scale = 1. / bias_correction(self.b2, state.t.advance()?);
        let rule = Step { b1: self.b1, b2: self.b2, alpha, eps: self.eps, eps_root: self.eps_root, n_scale };
        updates.map(rule, [&mut state.m, &mut state.n])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its values of the schedules and corrections.
struct Step {
    b1: f64,
    b2: f64,
    alpha: f64,
    eps: f64,
    eps_root: f64,
    n_scale: f64,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [m, n]: [N; 2]) -> (N, [N; 2]) {
        let m = m * self.b1 + g.clone();
        let n = n * self.b2 + g.clone().sqr() * (1. - self.b2);
        let root = (n.clone() * self.n_scale + self.eps_root).sqrt() + self.eps;
        let u = (m.clone() + g * self.alpha) / root;
        (u, [m, n])
    }
}

/// The type of [`simplified_ademamix`].
pub type SimplifiedAdemamix = Chain<(ScaleBySimplifiedAdemamix, AddDecayedWeights, ScaleByLearningRate)>;

/// [`scale_by_simplified_ademamix`] with decoupled weight decay, none by default.
#[must_use]
pub fn simplified_ademamix(learning_rate: impl Into<Schedule>) -> SimplifiedAdemamix {
    chain((scale_by_simplified_ademamix(), add_decayed_weights(0.), scale_by_learning_rate(learning_rate)))
}

options!(SimplifiedAdemamix:
    0 ScaleBySimplifiedAdemamix { b1: f64, b2: f64, alpha: impl Into<Schedule>, eps: f64, eps_root: f64 }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(SimplifiedAdemamix: 1);
