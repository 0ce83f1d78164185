//! A linear warm-up, then constant.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Curve, linear};

/// See [`warmup_constant`].
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmupConstant {
    #[serde(default)]
    init: f64,
    peak: f64,
    warmup_steps: u64,
}

/// From `init` up to `peak` in `warmup_steps` steps, then constant at `peak`.
///
/// With `warmup_steps = 0` it is `peak`, as in every schedule here with a warm-up. (In Optax this one stays
/// at `init`, as [`linear`] in 0 steps.)
///
/// ```
/// # use treex_optim::{Curve, warmup_constant};
/// assert_eq!([0, 1, 4, 9].map(|count| warmup_constant(0.0, 1.0, 4).value(count)), [0.0, 0.25, 1.0, 1.0]);
/// assert_eq!(warmup_constant(0.0, 1.0, 0).value(0), 1.0);
/// ```
#[must_use]
pub fn warmup_constant(init: f64, peak: f64, warmup_steps: u64) -> WarmupConstant {
    WarmupConstant { init, peak, warmup_steps }
}

impl Curve for WarmupConstant {
    fn value(&self, count: u64) -> f64 {
        let Self { init, peak, warmup_steps } = *self;
        if count < warmup_steps { linear(init, peak, warmup_steps).value(count) } else { peak }
    }
}

impl fmt::Debug for WarmupConstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warmup_constant({:?}, {:?}, {})", self.init, self.peak, self.warmup_steps)
    }
}
