//! A linear warm-up, then exponential decay.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Curve, ExponentialDecay, exponential_decay, fmt_option, linear};

/// See [`warmup_exponential_decay`].
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmupExponentialDecay {
    #[serde(default)]
    init: f64,
    peak: f64,
    warmup_steps: u64,
    steps: u64,
    rate: f64,
    #[serde(default)]
    begin: u64,
    #[serde(default)]
    staircase: bool,
    #[serde(default)]
    end: Option<f64>,
}

/// From `init` up to `peak` in `warmup_steps` steps, then [`exponential_decay`] from `peak`, whose steps
/// count from the end of the warm-up. Without a warm-up it starts at `peak`.
///
/// ```
/// # use treex_optim::{Curve, warmup_exponential_decay};
/// let rate = warmup_exponential_decay(0.0, 1.0, 2, 3, 0.5);
/// assert_eq!([0, 1, 2, 5, 8].map(|count| rate.value(count)), [0.0, 0.5, 1.0, 0.5, 0.25]);
/// ```
#[must_use]
pub fn warmup_exponential_decay(
    init: f64,
    peak: f64,
    warmup_steps: u64,
    steps: u64,
    rate: f64,
) -> WarmupExponentialDecay {
    WarmupExponentialDecay { init, peak, warmup_steps, steps, rate, begin: 0, staircase: false, end: None }
}

impl WarmupExponentialDecay {
    /// The first step of the decay, counted from the end of the warm-up. Default: 0.
    #[must_use]
    pub fn begin(self, begin: u64) -> Self {
        Self { begin, ..self }
    }

    /// See [`ExponentialDecay::staircase`].
    #[must_use]
    pub fn staircase(self, staircase: bool) -> Self {
        Self { staircase, ..self }
    }

    /// See [`ExponentialDecay::end`].
    #[must_use]
    pub fn end(self, end: f64) -> Self {
        Self { end: Some(end), ..self }
    }

    fn decay(&self) -> ExponentialDecay {
        let decay = exponential_decay(self.peak, self.steps, self.rate);
        let decay = decay.begin(self.begin).staircase(self.staircase);
        self.end.map_or(decay, |end| decay.end(end))
    }
}

impl Curve for WarmupExponentialDecay {
    fn value(&self, count: u64) -> f64 {
        if count < self.warmup_steps {
            return linear(self.init, self.peak, self.warmup_steps).value(count);
        }
        self.decay().value(count - self.warmup_steps)
    }
}

impl fmt::Debug for WarmupExponentialDecay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { init, peak, warmup_steps, steps, rate, begin, staircase, end } = self;
        write!(f, "warmup_exponential_decay({init:?}, {peak:?}, {warmup_steps}, {steps}, {rate:?})")?;
        fmt_option(f, "begin", *begin, 0)?;
        fmt_option(f, "staircase", *staircase, false)?;
        end.map_or(Ok(()), |end| write!(f, ".end({end:?})"))
    }
}
