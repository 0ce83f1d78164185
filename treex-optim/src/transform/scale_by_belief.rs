//! AdaBelief's rescaling.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{bias_correction, check_decay, check_not_negative, zeros_like};
use crate::scalar::Count;
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_belief`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByBeliefState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub mu: Leaves,
    /// The average of the squared deviations: as `mu`.
    pub nu: Leaves,
}

/// See [`scale_by_belief`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByBelief {
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
    nesterov: bool,
}

/// Adam with the deviation from the average in place of the gradient's square, at step `t` (from 1):
///
/// ```text
/// mu = b1 * mu + (1 - b1) * g                             mu^ = mu / (1 - b1^t)
/// nu = b2 * nu + (1 - b2) * (g - mu)^2 + eps_root         nu^ = nu / (1 - b2^t)
/// u  = mu^ / (sqrt(nu^) + eps)
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `eps = 1e-16` and `eps_root = 1e-16`. As in the paper `mu` is the new
/// average, and `eps_root` is added to the stored average at every step. `nesterov` changes `mu^` as in
/// [`scale_by_adam`](crate::scale_by_adam).
///
/// Zhuang et al., [AdaBelief optimizer: adapting stepsizes by the belief in observed
/// gradients](https://arxiv.org/abs/2010.07468), 2020.
#[must_use]
pub fn scale_by_belief() -> ScaleByBelief {
    ScaleByBelief { b1: 0.9, b2: 0.999, eps: 1e-16, eps_root: 1e-16, nesterov: false }
}

builder!(ScaleByBelief {
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the average of the deviations.
    b2: f64,
    /// Added to the denominator.
    eps: f64,
    /// Added to the average of the deviations at every step.
    eps_root: f64,
    /// Whether to use Nesterov momentum.
    nesterov: bool,
});

impl GradientTransformation for ScaleByBelief {
    type State = ScaleByBeliefState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        Ok(ScaleByBeliefState { count: Count::zero()?, mu: zeros_like(params)?, nu: zeros_like(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let t = state.count.advance()?;
        let rule = BeliefRule {
            of: self.clone(),
            mu: Average::nesterov(self.b1, t, self.nesterov),
            nu_scale: 1. / bias_correction(self.b2, t),
        };
        updates.map(rule, [&mut state.mu, &mut state.nu])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its bias corrections.
struct BeliefRule {
    of: ScaleByBelief,
    mu: Average,
    nu_scale: f64,
}

impl Rule<2> for BeliefRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let ScaleByBelief { b2, eps, eps_root, .. } = self.of;
        let (mu, mu_hat) = self.mu.next(g.clone(), mu);
        let nu = nu * b2 + (g - mu.clone()).sqr() * (1. - b2) + eps_root;
        (mu_hat / ((nu.clone() * self.nu_scale).sqrt() + eps), [mu, nu])
    }
}
