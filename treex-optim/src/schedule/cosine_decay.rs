//! Down along half a cosine.

use std::f64::consts::PI;
use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::Result;

use super::{Curve, check_power, check_steps, fmt_option};

/// See [`cosine_decay`].
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosineDecay {
    init: f64,
    decay_steps: u64,
    #[serde(default)]
    alpha: f64,
    #[serde(default = "unchanged")]
    exponent: f64,
}

/// From `init` down to `alpha * init` in `decay_steps` steps, along half a cosine:
///
/// ```text
/// k = min(c, decay_steps)
/// init * ((1 - alpha) * (0.5 * (1 + cos(pi * k / decay_steps)))^exponent + alpha)
/// ```
///
/// with `alpha = 0` and `exponent = 1`. `decay_steps` must be positive.
///
/// Loshchilov and Hutter, [SGDR](https://arxiv.org/abs/1608.03983), 2016.
#[must_use]
pub fn cosine_decay(init: f64, decay_steps: u64) -> CosineDecay {
    CosineDecay { init, decay_steps, alpha: 0., exponent: 1. }
}

impl CosineDecay {
    /// The last value, as a part of the first.
    #[must_use]
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    /// The power of the cosine.
    #[must_use]
    pub fn exponent(self, exponent: f64) -> Self {
        Self { exponent, ..self }
    }
}

impl Curve for CosineDecay {
    fn value(&self, count: u64) -> f64 {
        let done = count.min(self.decay_steps) as f64 / self.decay_steps as f64;
        let cosine = 0.5 * (1. + (PI * done).cos());
        self.init * ((1. - self.alpha) * cosine.powf(self.exponent) + self.alpha)
    }

    fn check(&self) -> Result<()> {
        check_power(self, "exponent", self.exponent)?;
        check_steps(self, "decay_steps", self.decay_steps, 0)
    }
}

impl fmt::Debug for CosineDecay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { init, decay_steps, alpha, exponent } = self;
        write!(f, "cosine_decay({init:?}, {decay_steps})")?;
        fmt_option(f, "alpha", *alpha, 0.)?;
        fmt_option(f, "exponent", *exponent, unchanged())
    }
}

/// The exponent that leaves a cosine as it is.
pub(super) fn unchanged() -> f64 {
    1.
}
