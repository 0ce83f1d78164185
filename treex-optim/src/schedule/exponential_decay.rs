//! Exponential decay.

use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::Result;

use super::{Curve, check_power, fmt_option};

/// See [`exponential_decay`].
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExponentialDecay {
    init: f64,
    steps: u64,
    rate: f64,
    #[serde(default)]
    begin: u64,
    #[serde(default)]
    staircase: bool,
    #[serde(default)]
    end: Option<f64>,
}

/// `init`, multiplied by `rate` every `steps` steps:
///
/// ```text
/// k = max(c - begin, 0)
/// init * rate^(k / steps), bounded by end
/// ```
///
/// with `begin = 0` and no `end`. As in Optax, `steps = 0` and `rate = 0` mean a constant `init`.
///
/// ```
/// # use treex_optim::{Curve, exponential_decay};
/// let rate = exponential_decay(1.0, 2, 0.5).begin(3).staircase(true).end(0.2);
/// assert_eq!([0, 4, 5, 7, 9, 99].map(|count| rate.value(count)), [1.0, 1.0, 0.5, 0.25, 0.2, 0.2]);
/// ```
#[must_use]
pub fn exponential_decay(init: f64, steps: u64, rate: f64) -> ExponentialDecay {
    ExponentialDecay { init, steps, rate, begin: 0, staircase: false, end: None }
}

impl ExponentialDecay {
    /// The first step of the decay.
    #[must_use]
    pub fn begin(self, begin: u64) -> Self {
        Self { begin, ..self }
    }

    /// Whether it decays at every `steps`-th step by the whole factor, or at each step by a part of it.
    #[must_use]
    pub fn staircase(self, staircase: bool) -> Self {
        Self { staircase, ..self }
    }

    /// The bound of the values: the smallest for a rate below 1, else the largest.
    #[must_use]
    pub fn end(self, end: f64) -> Self {
        Self { end: Some(end), ..self }
    }
}

impl Curve for ExponentialDecay {
    fn value(&self, count: u64) -> f64 {
        let Self { init, steps, rate, begin, staircase, end } = *self;
        if steps == 0 || rate == 0. {
            return init;
        }
        let done = count.saturating_sub(begin) as f64 / steps as f64;
        let value = init * rate.powf(if staircase { done.floor() } else { done });
        match end {
            None => value,
            Some(end) if rate < 1. => value.max(end),
            Some(end) => value.min(end),
        }
    }

    fn check(&self) -> Result<()> {
        check_power(self, "rate", self.rate)
    }
}

impl fmt::Debug for ExponentialDecay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exponential_decay({:?}, {}, {:?})", self.init, self.steps, self.rate)?;
        fmt_option(f, "begin", self.begin, 0)?;
        fmt_option(f, "staircase", self.staircase, false)?;
        self.end.map_or(Ok(()), |end| write!(f, ".end({end:?})"))
    }
}
