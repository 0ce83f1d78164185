//! Up and down, along two halves of a cosine.

use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::Result;

use super::linear_onecycle::{div_factor, final_div_factor, pct_start};
use super::{Curve, Interpolation, check_steps, fmt_option};

/// See [`cosine_onecycle`].
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosineOnecycle {
    steps: u64,
    peak: f64,
    #[serde(default = "pct_start")]
    pct_start: f64,
    #[serde(default = "div_factor")]
    div_factor: f64,
    #[serde(default = "final_div_factor")]
    final_div_factor: f64,
}

/// One cycle of `steps` steps, along halves of cosines through
///
/// ```text
/// peak / div_factor                       at step 0
/// peak                                    at step floor(pct_start * steps)
/// peak / (div_factor * final_div_factor)  at step steps
/// ```
///
/// with `pct_start = 0.3`, `div_factor = 25` and `final_div_factor = 1e4`. `steps` must be positive.
///
/// Smith and Topin, [Super-Convergence](https://arxiv.org/abs/1708.07120), 2017.
///
/// ```
/// # use treex_optim::{Curve, cosine_onecycle};
/// let rate = cosine_onecycle(10, 1.0).pct_start(0.4).div_factor(4.0).final_div_factor(5.0);
/// assert_eq!([0, 2, 4, 7, 10, 99].map(|count| rate.value(count)), [0.25, 0.625, 1.0, 0.525, 0.05, 0.05]);
/// ```
#[must_use]
pub fn cosine_onecycle(steps: u64, peak: f64) -> CosineOnecycle {
    CosineOnecycle {
        steps,
        peak,
        pct_start: pct_start(),
        div_factor: div_factor(),
        final_div_factor: final_div_factor(),
    }
}

impl CosineOnecycle {
    /// The fraction of the steps with an increasing rate.
    #[must_use]
    pub fn pct_start(self, pct_start: f64) -> Self {
        Self { pct_start, ..self }
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

impl Curve for CosineOnecycle {
    fn value(&self, count: u64) -> f64 {
        let Self { steps, peak, pct_start, div_factor, final_div_factor } = *self;
        let init = peak / div_factor;
        let top = (pct_start * steps as f64) as u64;
        Interpolation::Cosine.interpolate(init, [(top, peak), (steps, init / final_div_factor)], count)
    }

    fn check(&self) -> Result<()> {
        check_steps(self, "steps", self.steps, 0)
    }
}

impl fmt::Debug for CosineOnecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cosine_onecycle({}, {:?})", self.steps, self.peak)?;
        fmt_option(f, "pct_start", self.pct_start, pct_start())?;
        fmt_option(f, "div_factor", self.div_factor, div_factor())?;
        fmt_option(f, "final_div_factor", self.final_div_factor, final_div_factor())
    }
}
