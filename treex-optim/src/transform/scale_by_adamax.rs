//! AdaMax's rescaling.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_not_negative, zeros_like};
use crate::scalar::Count;
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_adamax`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByAdamaxState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub mu: Leaves,
    /// The largest absolute value, fading: as `mu`.
    pub nu: Leaves,
}

/// See [`scale_by_adamax`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByAdamax {
    b1: f64,
    b2: f64,
    eps: f64,
}

/// Adam with the largest absolute value in place of the average of squares, at step `t` (from 1):
///
/// ```text
/// mu = b1 * mu + (1 - b1) * g
/// nu = max(b2 * nu, |g| + eps)
/// u  = mu / (1 - b1^t) / nu
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999` and `eps = 1e-8`, which the paper (section 7.1) does not have. The same as
/// PyTorch's `Adamax`.
///
/// Kingma and Ba, [Adam: a method for stochastic optimization](https://arxiv.org/abs/1412.6980), 2014.
#[must_use]
pub fn scale_by_adamax() -> ScaleByAdamax {
    ScaleByAdamax { b1: 0.9, b2: 0.999, eps: 1e-8 }
}

builder!(ScaleByAdamax {
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the largest absolute value.
    b2: f64,
    /// Added to the absolute value.
    eps: f64,
});

impl GradientTransformation for ScaleByAdamax {
    type State = ScaleByAdamaxState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        Ok(ScaleByAdamaxState { count: Count::zero()?, mu: zeros_like(params)?, nu: zeros_like(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let mu = Average::debiased(self.b1, state.count.advance()?);
        updates.map(AdamaxRule { of: self.clone(), mu }, [&mut state.mu, &mut state.nu])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its bias corrections.
struct AdamaxRule {
    of: ScaleByAdamax,
    mu: Average,
}

impl Rule<2> for AdamaxRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let (mu, mu_hat) = self.mu.next(g.clone(), mu);
        let nu = (nu * self.of.b2).max(g.abs() + self.of.eps);
        (mu_hat / nu.clone(), [mu, nu])
    }
}
