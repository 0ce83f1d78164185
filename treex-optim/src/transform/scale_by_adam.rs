//! Adam's rescaling.

use treex_core::{Leaves, Result, TreeObject};

use crate::count::Count;
use crate::engine::{Number, Rule, Updates};
use crate::numerics::{bias_correction, check_decay, check_not_negative, zeros_like};
use crate::transformation::{Extra, GradientTransformation};

/// The state of [`scale_by_adam`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByAdamState {
    /// Steps so far: an i64 without dimensions.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub mu: Leaves,
    /// The average of their squares: as `mu`.
    pub nu: Leaves,
}

/// See [`scale_by_adam`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByAdam {
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
    nesterov: bool,
}

/// Divides an average of the gradients by the root of an average of their squares, at step `t` (from 1):
///
/// ```text
/// mu = b1 * mu + (1 - b1) * g                mu^ = mu / (1 - b1^t)
/// nu = b2 * nu + (1 - b2) * g^2              nu^ = nu / (1 - b2^t)
/// u  = mu^ / (sqrt(nu^ + eps_root) + eps)
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `eps = 1e-8` and `eps_root = 0`. With `nesterov`, after Dozat,
/// `mu^ = b1 * mu / (1 - b1^(t+1)) + (1 - b1) * g / (1 - b1^t)`.
///
/// This is the first form of the paper (section 2), with `eps` outside of the root, as in PyTorch. PyTorch's
/// `NAdam` also schedules its momentum; this does not. Both averages are f32 for narrower parameters, where
/// Optax keeps the parameters' type.
///
/// Kingma and Ba, [Adam: a method for stochastic optimization](https://arxiv.org/abs/1412.6980), 2014; Dozat,
/// [Incorporating Nesterov momentum into Adam](https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ), 2016.
#[must_use]
pub fn scale_by_adam() -> ScaleByAdam {
    ScaleByAdam { b1: 0.9, b2: 0.999, eps: 1e-8, eps_root: 0., nesterov: false }
}

impl ScaleByAdam {
    /// How much of the average of the gradients is kept at each step.
    #[must_use]
    pub fn b1(self, b1: f64) -> Self {
        Self { b1, ..self }
    }

    /// How much of the average of the squares is kept at each step.
    #[must_use]
    pub fn b2(self, b2: f64) -> Self {
        Self { b2, ..self }
    }

    /// Added to the root.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Added under the root, for those who differentiate through it.
    #[must_use]
    pub fn eps_root(self, eps_root: f64) -> Self {
        Self { eps_root, ..self }
    }

    /// Whether the average of the gradients looks one step ahead.
    #[must_use]
    pub fn nesterov(self, nesterov: bool) -> Self {
        Self { nesterov, ..self }
    }
}

impl GradientTransformation for ScaleByAdam {
    type State = ScaleByAdamState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        Ok(ScaleByAdamState { count: Count::zero()?, mu: zeros_like(params)?, nu: zeros_like(params)? })
    }

    fn update<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut Self::State,
        _params: &Leaves,
        _extra: &Extra,
    ) -> Result<Updates<'a>> {
        let t = state.count.advance()?;
        let next = if self.nesterov { t + 1 } else { t };
        let rule = AdamRule {
            of: self.clone(),
            mu_scale: 1. / bias_correction(self.b1, next),
            g_scale: 1. / bias_correction(self.b1, t),
            nu_scale: 1. / bias_correction(self.b2, t),
        };
        updates.map(rule, [&mut state.mu, &mut state.nu])
    }
}

/// One step, with the corrections of its count.
struct AdamRule {
    of: ScaleByAdam,
    mu_scale: f64,
    g_scale: f64,
    nu_scale: f64,
}

impl Rule<2> for AdamRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let ScaleByAdam { b1, b2, eps, eps_root, nesterov } = self.of;
        let mu = mu * b1 + g.clone() * (1. - b1);
        let nu = nu * b2 + g.clone().sqr() * (1. - b2);
        let mu_hat = if nesterov {
            mu.clone() * (b1 * self.mu_scale) + g * ((1. - b1) * self.g_scale)
        } else {
            mu.clone() * self.mu_scale
        };
        let u = mu_hat / ((nu.clone() * self.nu_scale + eps_root).sqrt() + eps);
        (u, [mu, nu])
    }
}
