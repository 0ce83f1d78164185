//! AMSGrad's rescaling.

use candle_core::DType;
use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_float, check_not_negative, zeros_in, zeros_like};
use crate::scalar::Count;
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_amsgrad`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByAmsgradState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters), or
    /// `mu_dtype`.
    pub mu: Leaves,
    /// The average of their squares: the parameters' shapes, f32 (f64 for f64 parameters).
    pub nu: Leaves,
    /// The largest of these averages so far: as `nu`.
    pub nu_max: Leaves,
}

/// See [`scale_by_amsgrad`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByAmsgrad {
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
    mu_dtype: Option<DType>,
    bias_correction_mu: bool,
    bias_correction_nu: bool,
}

/// Adam with a denominator that never shrinks, at step `t` (from 1):
///
/// ```text
/// mu     = b1 * mu + (1 - b1) * g                 mu^ = mu / (1 - b1^t)
/// nu     = b2 * nu + (1 - b2) * g^2               nu^ = nu / (1 - b2^t)
/// nu_max = max(nu_max, nu^)
/// u      = mu^ / (sqrt(nu_max + eps_root) + eps)
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `eps = 1e-8` and `eps_root = 0`. Either correction can be turned off, as in
/// the paper. By default the state keeps the largest corrected average; PyTorch keeps the largest raw one and
/// corrects that.
///
/// Reddi et al., [On the convergence of Adam and beyond](https://openreview.net/forum?id=ryQu7f-RZ), 2018.
#[must_use]
pub fn scale_by_amsgrad() -> ScaleByAmsgrad {
    ScaleByAmsgrad {
        b1: 0.9,
        b2: 0.999,
        eps: 1e-8,
        eps_root: 0.,
        mu_dtype: None,
        bias_correction_mu: true,
        bias_correction_nu: true,
    }
}

builder!(ScaleByAmsgrad {
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the average of the squares.
    b2: f64,
    /// Added to the denominator.
    eps: f64,
    /// Added inside the square root.
    eps_root: f64,
    /// The element type of `mu`.
    mu_dtype: impl Into<Option<DType>>,
    /// Whether `mu` is bias-corrected. Default: true.
    bias_correction_mu: bool,
    /// Whether `nu` is bias-corrected. Default: true.
    bias_correction_nu: bool,
});

impl GradientTransformation for ScaleByAmsgrad {
    type State = ScaleByAmsgradState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        check_float("mu_dtype", self.mu_dtype)?;
        Ok(ScaleByAmsgradState {
            count: Count::zero()?,
            mu: zeros_in(params, self.mu_dtype)?,
            nu: zeros_like(params)?,
            nu_max: zeros_like(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let t = state.count.advance()?;
        let average = |on, decay| if on { Average::debiased(decay, t) } else { Average::raw(decay) };
        let rule = AmsgradRule {
            of: self.clone(),
            mu: average(self.bias_correction_mu, self.b1),
            nu: average(self.bias_correction_nu, self.b2),
        };
        updates.map(rule, [&mut state.mu, &mut state.nu, &mut state.nu_max])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its bias corrections.
struct AmsgradRule {
    of: ScaleByAmsgrad,
    mu: Average,
    nu: Average,
}

impl Rule<3> for AmsgradRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu, nu_max]: [N; 3]) -> (N, [N; 3]) {
        let (mu, mu_hat) = self.mu.next(g.clone(), mu);
        let (nu, nu_hat) = self.nu.next(g.sqr(), nu);
        let nu_max = nu_max.max(nu_hat);
        let u = mu_hat / ((nu_max.clone() + self.of.eps_root).sqrt() + self.of.eps);
        (u, [mu, nu, nu_max])
    }
}
