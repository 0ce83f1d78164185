//! Adam's rescaling.

use treex_core::{Leaves, Result, TreeObject};

use crate::count::Count;
use crate::numerics::{
    bias_correction, check_decay, check_not_negative, remember, update_moment, weighted_sum, zeros_like,
};
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

    fn update(
        &self,
        updates: Leaves,
        state: &mut Self::State,
        _params: &Leaves,
        _extra: &Extra,
    ) -> Result<Leaves> {
        let t = state.count.advance()?;
        let mu = update_moment(&updates, &state.mu, self.b1, 1)?;
        let nu = update_moment(&updates, &state.nu, self.b2, 2)?;
        let [of_mu, of_nu] = [bias_correction(self.b1, t), bias_correction(self.b2, t)];
        let mu_hat = if self.nesterov {
            let (kept, new) = (self.b1 / bias_correction(self.b1, t + 1), (1. - self.b1) / of_mu);
            mu.combine(&updates, |mu, g| weighted_sum(kept, mu, new, g))?
        } else {
            mu.apply(|mu| Ok(mu.affine(1. / of_mu, 0.)?))?
        };
        remember(&mut state.mu, &mu)?;
        remember(&mut state.nu, &nu)?;
        mu_hat.combine(&nu, |mu_hat, nu| {
            let root = nu.affine(1. / of_nu, self.eps_root)?.sqrt()?;
            Ok((mu_hat / root.affine(1., self.eps)?)?)
        })
    }
}
