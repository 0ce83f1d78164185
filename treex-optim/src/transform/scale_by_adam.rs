//! Adam's rescaling.

use candle_core::DType;
use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_float, check_not_negative, zeros_in, zeros_like};
use crate::scalar::Count;
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_adam`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByAdamState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters), or
    /// `mu_dtype`.
    pub mu: Leaves,
    /// The average of their squares: the parameters' shapes, f32 (f64 for f64 parameters).
    pub nu: Leaves,
}

/// See [`scale_by_adam`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByAdam {
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
    mu_dtype: Option<DType>,
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
/// This is the first form of the paper (section 2), with `eps` outside the square root, as in PyTorch.
/// PyTorch's `NAdam` also schedules its momentum; this does not. Both averages are f32 for narrower
/// parameters, where Optax keeps the parameters' type; `mu_dtype` overrides this for `mu`, which is rounded
/// only when it is kept.
///
/// Kingma and Ba, [Adam: a method for stochastic optimization](https://arxiv.org/abs/1412.6980), 2014; Dozat,
/// [Incorporating Nesterov momentum into Adam](https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ), 2016.
#[must_use]
pub fn scale_by_adam() -> ScaleByAdam {
    ScaleByAdam { b1: 0.9, b2: 0.999, eps: 1e-8, eps_root: 0., mu_dtype: None, nesterov: false }
}

builder!(ScaleByAdam {
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the average of the squares.
    b2: f64,
    /// Added to the denominator.
    eps: f64,
    /// Added inside the square root, for a finite derivative.
    eps_root: f64,
    /// The element type of `mu`.
    mu_dtype: impl Into<Option<DType>>,
    /// Whether to use Nesterov momentum.
    nesterov: bool,
});

impl GradientTransformation for ScaleByAdam {
    type State = ScaleByAdamState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        check_float("mu_dtype", self.mu_dtype)?;
        let mu = zeros_in(params, self.mu_dtype)?;
        Ok(ScaleByAdamState { count: Count::zero()?, mu, nu: zeros_like(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let t = state.count.advance()?;
        let rule = AdamRule {
            of: self.clone(),
            mu: Average::nesterov(self.b1, t, self.nesterov),
            nu: Average::debiased(self.b2, t),
        };
        updates.map(rule, [&mut state.mu, &mut state.nu])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its bias corrections.
struct AdamRule {
    of: ScaleByAdam,
    mu: Average,
    nu: Average,
}

impl Rule<2> for AdamRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let (mu, mu_hat) = self.mu.next(g.clone(), mu);
        let (nu, nu_hat) = self.nu.next(g.sqr(), nu);
        let u = mu_hat / ((nu_hat + self.of.eps_root).sqrt() + self.of.eps);
        (u, [mu, nu])
    }
}
