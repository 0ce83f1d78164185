//! Yogi's rescaling.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{bias_correction, check_decay, check_not_negative, full_like};
use crate::scalar::Count;
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_yogi`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByYogiState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub mu: Leaves,
    /// The average of their squares: as `mu`.
    pub nu: Leaves,
}

/// See [`scale_by_yogi`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByYogi {
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
    initial_accumulator_value: f64,
}

/// Adam whose average of squares changes additively, at step `t` (from 1):
///
/// ```text
/// mu = b1 * mu + (1 - b1) * g                             mu^ = mu / (1 - b1^t)
/// nu = nu - (1 - b2) * sign(nu - g^2) * g^2               nu^ = nu / (1 - b2^t)
/// u  = mu^ / (sqrt(nu^ + eps_root) + eps)
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `eps = 1e-3` and `eps_root = 0`. Before the first step `nu` is
/// `initial_accumulator_value = 1e-6`; as in Optax `mu` is too; the paper starts it at 0.
///
/// Zaheer et al., [Adaptive methods for nonconvex
/// optimization](https://papers.nips.cc/paper/2018/hash/90365351ccc7437a1309dc64e4db32a3-Abstract.html),
/// 2018.
#[must_use]
pub fn scale_by_yogi() -> ScaleByYogi {
    ScaleByYogi { b1: 0.9, b2: 0.999, eps: 1e-3, eps_root: 0., initial_accumulator_value: 1e-6 }
}

builder!(ScaleByYogi {
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// One minus the step of the average of the squares.
    b2: f64,
    /// Added to the denominator.
    eps: f64,
    /// Added inside the square root.
    eps_root: f64,
    /// The first value of both averages.
    initial_accumulator_value: f64,
});

impl GradientTransformation for ScaleByYogi {
    type State = ScaleByYogiState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        check_not_negative("initial_accumulator_value", self.initial_accumulator_value)?;
        let initial = || full_like(params, self.initial_accumulator_value);
        Ok(ScaleByYogiState { count: Count::zero()?, mu: initial()?, nu: initial()? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let t = state.count.advance()?;
        let rule = YogiRule {
            of: self.clone(),
            mu: Average::debiased(self.b1, t),
            nu_scale: 1. / bias_correction(self.b2, t),
        };
        updates.map(rule, [&mut state.mu, &mut state.nu])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its bias corrections.
struct YogiRule {
    of: ScaleByYogi,
    mu: Average,
    nu_scale: f64,
}

impl Rule<2> for YogiRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let (mu, mu_hat) = self.mu.next(g.clone(), mu);
        let square = g.sqr();
        let nu = nu.clone() - (nu - square.clone()).sign() * square * (1. - self.of.b2);
        let u = mu_hat / ((nu.clone() * self.nu_scale + self.of.eps_root).sqrt() + self.of.eps);
        (u, [mu, nu])
    }
}
