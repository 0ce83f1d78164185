//! A one-cycle schedule of linear segments.

use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::Result;

use super::{Curve, Interpolation, check_steps, fmt_option};

/// See [`linear_onecycle`].
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearOnecycle {
    steps: u64,
    peak: f64,
    #[serde(default = "pct_start")]
    pct_start: f64,
    #[serde(default = "pct_final")]
    pct_final: f64,
    #[serde(default = "div_factor")]
    div_factor: f64,
    #[serde(default = "final_div_factor")]
    final_div_factor: f64,
}

/// One cycle of `steps` steps, linear between
///
/// ```text
/// peak / div_factor                       at step 0
/// peak                                    at step floor(pct_start * steps)
/// peak / div_factor                       at step floor(pct_final * steps)
/// peak / (div_factor * final_div_factor)  at step steps
/// ```
///
/// with `pct_start = 0.3`, `pct_final = 0.85`, `div_factor = 25` and `final_div_factor = 1e4`. If a short
/// cycle has two knots at one step, the last counts. `steps` must be positive.
///
/// Smith and Topin, [Super-Convergence](https://arxiv.org/abs/1708.07120), 2017.
///
/// ```
/// # use treex_optim::{Curve, linear_onecycle};
/// let rate = linear_onecycle(20, 1.0).div_factor(4.0).final_div_factor(5.0);
/// assert_eq!([0, 3, 6, 17, 20, 99].map(|count| rate.value(count)), [0.25, 0.625, 1.0, 0.25, 0.05, 0.05]);
/// ```
#[must_use]
pub fn linear_onecycle(steps: u64, peak: f64) -> LinearOnecycle {
    LinearOnecycle {
        steps,
        peak,
        pct_start: pct_start(),
        pct_final: pct_final(),
        div_factor: div_factor(),
        final_div_factor: final_div_factor(),
    }
}

impl LinearOnecycle {
    /// The fraction of the steps with an increasing rate.
    #[must_use]
    pub fn pct_start(self, pct_start: f64) -> Self {
        Self { pct_start, ..self }
    }

    /// The fraction of the steps at the end of the cycle.
    #[must_use]
    pub fn pct_final(self, pct_final: f64) -> Self {
        Self { pct_final, ..self }
    }

    /// The quotient of the peak and the first value.
    #[must_use]
    pub fn div_factor(self, div_factor: f64) -> Self {
        Self { div_factor, ..self }
    }

    /// The quotient of the first and the last value.
    #[must_use]
    pub fn final_div_factor(self, final_div_factor: f64) -> Self {
        Self { final_div_factor, ..self }
    }
}

impl Curve for LinearOnecycle {
    fn value(&self, count: u64) -> f64 {
        let Self { steps, peak, pct_start, pct_final, div_factor, final_div_factor } = *self;
        let init = peak / div_factor;
        let at = |part: f64| (part * steps as f64) as u64;
        let knots = [(at(pct_start), peak), (at(pct_final), init), (steps, init / final_div_factor)];
        Interpolation::Linear.interpolate(init, knots, count)
    }

    fn check(&self) -> Result<()> {
        check_steps(self, "steps", self.steps, 0)
    }
}

impl fmt::Debug for LinearOnecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linear_onecycle({}, {:?})", self.steps, self.peak)?;
        fmt_option(f, "pct_start", self.pct_start, pct_start())?;
        fmt_option(f, "pct_final", self.pct_final, pct_final())?;
        fmt_option(f, "div_factor", self.div_factor, div_factor())?;
        fmt_option(f, "final_div_factor", self.final_div_factor, final_div_factor())
    }
}

pub(super) fn pct_start() -> f64 {
    0.3
}

fn pct_final() -> f64 {
    0.85
}

pub(super) fn div_factor() -> f64 {
    25.
}

pub(super) fn final_div_factor() -> f64 {
    1e4
}
