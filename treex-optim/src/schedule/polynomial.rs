//! Polynomial and linear transitions.

use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::Result;

use super::{Curve, check_power, fmt_option};

/// See [`polynomial`] and [`linear`].
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polynomial {
    init: f64,
    end: f64,
    #[serde(default = "linear_power")]
    power: f64,
    steps: u64,
    #[serde(default)]
    begin: u64,
}

/// From `init` to `end` in `steps` steps, along a polynomial:
///
/// ```text
/// k = clip(c - begin, 0, steps)
/// (init - end) * (1 - k / steps)^power + end
/// ```
///
/// As in Optax, `steps = 0` means a constant `init`.
#[must_use]
pub fn polynomial(init: f64, end: f64, power: f64, steps: u64) -> Polynomial {
    Polynomial { init, end, power, steps, begin: 0 }
}

/// From `init` to `end` in `steps` steps, linearly: [`polynomial`] with power 1.
///
/// ```
/// let rate = treex_optim::linear(1.0, 0.0, 4).begin(2);
/// assert_eq!([0, 2, 3, 6, 9].map(|count| treex_optim::Curve::value(&rate, count)), [1.0, 1.0, 0.75, 0.0, 0.0]);
/// ```
#[must_use]
pub fn linear(init: f64, end: f64, steps: u64) -> Polynomial {
    polynomial(init, end, 1., steps)
}

impl Polynomial {
    /// The first step of the transition. Default: 0.
    #[must_use]
    pub fn begin(self, begin: u64) -> Self {
        Self { begin, ..self }
    }
}

impl Curve for Polynomial {
    fn value(&self, count: u64) -> f64 {
        if self.steps == 0 {
            return self.init;
        }
        let done = count.saturating_sub(self.begin).min(self.steps) as f64 / self.steps as f64;
        (self.init - self.end) * (1. - done).powf(self.power) + self.end
    }

    fn check(&self) -> Result<()> {
        check_power(self, "power", self.power)
    }
}

impl fmt::Debug for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { init, end, power, steps, begin } = self;
        if *power == 1. {
            write!(f, "linear({init:?}, {end:?}, {steps})")?;
        } else {
            write!(f, "polynomial({init:?}, {end:?}, {power:?}, {steps})")?;
        }
        fmt_option(f, "begin", *begin, 0)
    }
}

fn linear_power() -> f64 {
    1.
}

/// A [`Polynomial`] in a configuration file as [`linear`] has it, to which a power means nothing.
pub(super) mod without_power {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Error, Serialize, Serializer};

    use super::{Polynomial, linear};

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Linear {
        init: f64,
        end: f64,
        steps: u64,
        #[serde(default)]
        begin: u64,
    }

    pub(crate) fn serialize<S: Serializer>(
        curve: &Polynomial,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        let Polynomial { init, end, power, steps, begin } = *curve;
        if power != 1. {
            return Err(S::Error::custom("a linear schedule has no power: use `CurveConfig::Polynomial`"));
        }
        Linear { init, end, steps, begin }.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Polynomial, D::Error> {
        let Linear { init, end, steps, begin } = Linear::deserialize(deserializer)?;
        Ok(linear(init, end, steps).begin(begin))
    }
}
