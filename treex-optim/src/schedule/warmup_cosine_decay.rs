//! A linear warm-up, then cosine decay.

use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::Result;

use super::cosine_decay::unchanged;
use super::{Curve, check_steps, cosine_decay, fmt_option, linear};

/// See [`warmup_cosine_decay`] and [`warmup_cosine`].
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmupCosineDecay {
    #[serde(default)]
    init: f64,
    peak: f64,
    warmup_steps: u64,
    pub(super) decay_steps: u64,
    #[serde(default)]
    end: f64,
    #[serde(default = "unchanged")]
    exponent: f64,
}

/// From `init` up to `peak` in `warmup_steps` steps, then down to `end` at step `decay_steps`, which
/// includes the warm-up: [`linear`], then [`cosine_decay`] over the remaining steps.
///
/// `decay_steps` must be more than `warmup_steps`. Without a warm-up it starts at `peak`.
#[must_use]
pub fn warmup_cosine_decay(
    init: f64,
    peak: f64,
    warmup_steps: u64,
    decay_steps: u64,
    end: f64,
) -> WarmupCosineDecay {
    WarmupCosineDecay { init, peak, warmup_steps, decay_steps, end, exponent: 1. }
}

/// [`warmup_cosine_decay`] from zero to zero.
///
/// ```
/// let rate = treex_optim::warmup_cosine(1e-3, 100, 10_000);
/// assert_eq!([0, 50, 100, 10_000].map(|count| treex_optim::Curve::value(&rate, count)), [0.0, 5e-4, 1e-3, 0.0]);
/// ```
#[must_use]
pub fn warmup_cosine(peak: f64, warmup_steps: u64, decay_steps: u64) -> WarmupCosineDecay {
    warmup_cosine_decay(0., peak, warmup_steps, decay_steps, 0.)
}

impl WarmupCosineDecay {
    /// The power of the cosine. Default: 1.
    #[must_use]
    pub fn exponent(self, exponent: f64) -> Self {
        Self { exponent, ..self }
    }
}

impl Curve for WarmupCosineDecay {
    fn value(&self, count: u64) -> f64 {
        let Self { init, peak, warmup_steps, decay_steps, end, exponent } = *self;
        if count < warmup_steps {
            return linear(init, peak, warmup_steps).value(count);
        }
        let alpha = if peak == 0. { 0. } else { end / peak };
        let decay =
            cosine_decay(peak, decay_steps.saturating_sub(warmup_steps)).alpha(alpha).exponent(exponent);
        decay.value(count - warmup_steps)
    }

    fn check(&self) -> Result<()> {
        check_steps(self, "decay_steps", self.decay_steps, self.warmup_steps)
    }
}

impl fmt::Debug for WarmupCosineDecay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { init, peak, warmup_steps, decay_steps, end, exponent } = self;
        if (*init, *end) == (0., 0.) {
            write!(f, "warmup_cosine({peak:?}, {warmup_steps}, {decay_steps})")?;
        } else {
            write!(f, "warmup_cosine_decay({init:?}, {peak:?}, {warmup_steps}, {decay_steps}, {end:?})")?;
        }
        fmt_option(f, "exponent", *exponent, unchanged())
    }
}
