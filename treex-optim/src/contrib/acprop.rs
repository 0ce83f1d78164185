//! ACProp.

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

/// The state of [`scale_by_acprop`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByAcpropState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub mu: Leaves,
    /// The average of the squares of their distance from it: as `mu`.
    pub nu: Leaves,
}

/// See [`scale_by_acprop`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByAcprop {
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
}

/// Divides gradients by the root of their variance before this step:
///
/// ```text
/// u  = g / (sqrt(nu / (1 - b2^(t-1))) + eps)          g at the first step, t = 1
/// nu = b2 nu + (1 - b2) (g - mu)^2 + eps_root
/// mu = b1 mu + (1 - b1) g
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, and 1e-16 for `eps` and `eps_root`, which is added to the state at each
/// step.
///
/// Zhuang et al., [Momentum centering and asynchronous update for adaptive gradient
/// methods](https://arxiv.org/abs/2110.05454), 2021.
#[must_use]
pub fn scale_by_acprop() -> ScaleByAcprop {
    ScaleByAcprop { b1: 0.9, b2: 0.999, eps: 1e-16, eps_root: 1e-16 }
}

builder!(ScaleByAcprop {
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the variance.
    b2: f64,
    /// Added to the denominator.
    eps: f64,
    /// Added to the variance.
    eps_root: f64,
});

impl GradientTransformation for ScaleByAcprop {
    type State = ScaleByAcpropState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        Ok(ScaleByAcpropState { count: Count::zero()?, mu: zeros_like(params)?, nu: zeros_like(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let before = state.count.get()?;
        state.count.advance()?;
        let nu_scale = (before > 0).then(|| 1. / bias_correction(self.b2, before));
        updates.map(Step { of: self.clone(), nu_scale }, [&mut state.mu, &mut state.nu])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with the correction of its count; none at the first one.
struct Step {
    of: ScaleByAcprop,
    nu_scale: Option<f64>,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let ScaleByAcprop { b1, b2, eps, eps_root } = self.of;
        let root = match self.nu_scale {
            Some(scale) => (nu.clone() * scale).sqrt(),
            None => N::constant(1.),
        };
        let u = g.clone() / (root + eps);
        let nu = nu * b2 + (g.clone() - mu.clone()).sqr() * (1. - b2) + eps_root;
        (u, [mu * b1 + g * (1. - b1), nu])
    }
}

/// The type of [`acprop`].
pub type Acprop = Chain<(ScaleByAcprop, AddDecayedWeights, ScaleByLearningRate)>;

/// [`scale_by_acprop`] with decoupled weight decay, none by default.
#[must_use]
pub fn acprop(learning_rate: impl Into<Schedule>) -> Acprop {
    chain((scale_by_acprop(), add_decayed_weights(0.), scale_by_learning_rate(learning_rate)))
}

options!(Acprop:
    0 ScaleByAcprop { b1: f64, b2: f64, eps: f64, eps_root: f64 }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(Acprop: 1);
