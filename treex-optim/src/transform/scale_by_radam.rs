//! RAdam's rescaling.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{bias_correction, check_at_least, check_decay, check_not_negative, zeros_like};
use crate::scalar::Count;
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_radam`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByRadamState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub mu: Leaves,
    /// The average of their squares: as `mu`.
    pub nu: Leaves,
}

/// See [`scale_by_radam`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByRadam {
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
    threshold: f64,
    nesterov: bool,
}

/// Adam that divides only once the variance of the average of squares is tractable, at step `t` (from 1):
///
/// ```text
/// mu^, nu^ as in Adam
/// ro_inf = 2 / (1 - b2) - 1
/// ro     = ro_inf - 2 * t * b2^t / (1 - b2^t)
/// u      = r * mu^ / (sqrt(nu^ + eps_root) + eps)     if ro >= threshold
///          mu^                                        before
/// r      = sqrt((ro - 4) (ro - 2) ro_inf / ((ro_inf - 4) (ro_inf - 2) ro))
/// ```
///
/// with Adam's defaults and `threshold = 5`: with `b2 = 0.999` it divides from step 6 on. `nesterov`
/// changes `mu^` as in [`scale_by_adam`](crate::scale_by_adam). PyTorch's `RAdam` differs in the place of
/// `eps`.
///
/// Liu et al., [On the variance of the adaptive learning rate and beyond](https://arxiv.org/abs/1908.03265), 2019.
#[must_use]
pub fn scale_by_radam() -> ScaleByRadam {
    ScaleByRadam { b1: 0.9, b2: 0.999, eps: 1e-8, eps_root: 0., threshold: 5., nesterov: false }
}

builder!(ScaleByRadam {
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the average of the squares.
    b2: f64,
    /// Added to the denominator.
    eps: f64,
    /// Added inside the square root.
    eps_root: f64,
    /// The smallest length of the average of squares to divide by it; at least 4, where the variance exists.
    threshold: f64,
    /// Whether to use Nesterov momentum.
    nesterov: bool,
});

impl GradientTransformation for ScaleByRadam {
    type State = ScaleByRadamState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("eps_root", self.eps_root)?;
        check_at_least("threshold", self.threshold, 4.)?;
        Ok(ScaleByRadamState { count: Count::zero()?, mu: zeros_like(params)?, nu: zeros_like(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let t = state.count.advance()?;
        let last = 2. / (1. - self.b2) - 1.;
        let now = last - 2. * t as f64 * self.b2.powf(t as f64) / bias_correction(self.b2, t);
        let rectify = (now - 4.) * (now - 2.) * last / ((last - 4.) * (last - 2.) * now);
        let rule = RadamRule {
            of: self.clone(),
            mu: Average::nesterov(self.b1, t, self.nesterov),
            nu: Average::debiased(self.b2, t),
            scale: (now >= self.threshold).then(|| rectify.sqrt()),
        };
        updates.map(rule, [&mut state.mu, &mut state.nu])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its bias corrections.
struct RadamRule {
    of: ScaleByRadam,
    mu: Average,
    nu: Average,
    /// The rectification; `None` below the threshold.
    scale: Option<f64>,
}

impl Rule<2> for RadamRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let (mu, mu_hat) = self.mu.next(g.clone(), mu);
        let (nu, nu_hat) = self.nu.next(g.sqr(), nu);
        let u = match self.scale {
            Some(scale) => mu_hat * scale / ((nu_hat + self.of.eps_root).sqrt() + self.of.eps),
            None => mu_hat,
        };
        (u, [mu, nu])
    }
}
