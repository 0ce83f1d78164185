//! Up in a straight line, then constant.

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

/// From `init` up to `peak` in `warmup_steps` steps, and `peak` from then on.
///
/// Without a warm-up it is `peak`, as in every schedule here that warms up. (Optax makes of this one a
/// [`linear`] without steps, which stays at `init`.)
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
