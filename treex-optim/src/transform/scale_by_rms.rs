//! RMSProp's rescaling, centered or not.

use treex_core::{Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_not_negative, full_like, zeros_like};
use crate::scalar::Count;
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_rms`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByRmsState {
    /// The number of steps so far: a scalar i64; no leaf without `bias_correction`.
    pub count: Option<Count>,
    /// The average of the gradients: as `nu`; no leaves without `centered`.
    pub mu: Option<Leaves>,
    /// The average of the squares: the parameters' shapes, f32 (f64 for f64 parameters).
    pub nu: Leaves,
}

/// See [`scale_by_rms`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByRms {
    decay: f64,
    eps: f64,
    initial_scale: f64,
    eps_in_sqrt: bool,
    bias_correction: bool,
    centered: bool,
}

/// Divides by the root of an average of the squares, at step `t` (from 1):
///
/// ```text
/// nu = decay * nu + (1 - decay) * g^2
/// u  = g / sqrt(nu + eps)                     g / (sqrt(nu) + eps) without eps_in_sqrt
/// ```
///
/// with `decay = 0.9`, `eps = 1e-8` and `nu = initial_scale = 0` before the first step. With
/// `bias_correction`, `nu` is divided by `1 - decay^t` before use; with `eps_in_sqrt(false)` too, this is
/// Adam without its first average. PyTorch's `RMSprop` has `decay = 0.99` and adds `eps` to the root.
///
/// `centered` divides by the standard deviation, as [`scale_by_stddev`]. The averages are f32 for narrower
/// parameters.
///
/// Hinton, [Neural networks for machine learning, lecture 6](https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf), 2012.
#[must_use]
pub fn scale_by_rms() -> ScaleByRms {
    ScaleByRms {
        decay: 0.9,
        eps: 1e-8,
        initial_scale: 0.,
        eps_in_sqrt: true,
        bias_correction: false,
        centered: false,
    }
}

/// Divides by a running standard deviation of the gradients, at step `t` (from 1):
///
/// ```text
/// mu = decay * mu + (1 - decay) * g
/// nu = decay * nu + (1 - decay) * g^2
/// u  = g / sqrt(nu - mu^2 + eps)              g / (sqrt(nu - mu^2) + eps) without eps_in_sqrt
/// ```
///
/// with the options and defaults of [`scale_by_rms`], of which this is the `centered` form. With
/// `bias_correction` both averages are divided by `1 - decay^t`. As in Optax the difference can come out
/// below zero by rounding, and the update is then NaN; `initial_scale(1.0)` avoids that.
#[must_use]
pub fn scale_by_stddev() -> ScaleByRms {
    scale_by_rms().centered(true)
}

builder!(ScaleByRms {
    /// The decay rate of the averages.
    decay: f64,
    /// Avoids a division by zero.
    eps: f64,
    /// `nu` before the first step.
    initial_scale: f64,
    /// Whether `eps` is inside the square root. Default: true.
    eps_in_sqrt: bool,
    /// Whether to correct the bias of the start at zero.
    bias_correction: bool,
    /// Whether the square of the average is subtracted from the average of the squares.
    centered: bool,
});

impl GradientTransformation for ScaleByRms {
    type State = ScaleByRmsState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("decay", self.decay)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("initial_scale", self.initial_scale)?;
        Ok(ScaleByRmsState {
            count: if self.bias_correction { Some(Count::zero()?) } else { None },
            mu: if self.centered { Some(zeros_like(params)?) } else { None },
            nu: full_like(params, self.initial_scale)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let average = match &mut state.count {
            Some(count) => Average::debiased(self.decay, count.advance()?),
            None => Average::raw(self.decay),
        };
        let rule = RmsRule { of: self.clone(), average };
        match &mut state.mu {
            Some(mu) => updates.map(rule, [mu, &mut state.nu]),
            None => updates.map(rule, [&mut state.nu]),
        }
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its bias corrections.
struct RmsRule {
    of: ScaleByRms,
    average: Average,
}

impl RmsRule {
    #[inline(always)]
    fn divided<N: Number>(&self, g: N, square: N) -> N {
        let eps = self.of.eps;
        if self.of.eps_in_sqrt { g / (square + eps).sqrt() } else { g / (square.sqrt() + eps) }
    }
}

impl Rule<1> for RmsRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [nu]: [N; 1]) -> (N, [N; 1]) {
        let (nu, nu_hat) = self.average.next(g.clone().sqr(), nu);
        (self.divided(g, nu_hat), [nu])
    }
}

impl Rule<2> for RmsRule {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let (mu, mu_hat) = self.average.next(g.clone(), mu);
        let (nu, nu_hat) = self.average.next(g.clone().sqr(), nu);
        (self.divided(g, nu_hat - mu_hat.sqr()), [mu, nu])
    }
}
