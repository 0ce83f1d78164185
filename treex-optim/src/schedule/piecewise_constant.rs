//! Piecewise constant schedules.

use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::Result;

use super::Curve;
use super::scales::Scales;

/// See [`piecewise_constant`].
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PiecewiseConstant {
    init: f64,
    boundaries_and_scales: Scales,
}

/// `init`, multiplied by each scale from its boundary on: the product of `init` and every scale with
/// `boundary <= c`. Scales must not be negative.
///
/// ```
/// # use treex_optim::{Curve, piecewise_constant};
/// let rate = piecewise_constant(1.0, [(2, 0.5), (5, 0.1)]);
/// assert_eq!([0, 1, 2, 4, 5, 9].map(|count| rate.value(count)), [1.0, 1.0, 0.5, 0.5, 0.05, 0.05]);
/// ```
#[must_use]
pub fn piecewise_constant(
    init: f64,
    boundaries_and_scales: impl IntoIterator<Item = (u64, f64)>,
) -> PiecewiseConstant {
    PiecewiseConstant { init, boundaries_and_scales: Scales::new(boundaries_and_scales) }
}

impl Curve for PiecewiseConstant {
    fn value(&self, count: u64) -> f64 {
        let reached = self.boundaries_and_scales.iter().take_while(|&(boundary, _)| boundary <= count);
        reached.fold(self.init, |value, (_, scale)| value * scale)
    }

    fn check(&self) -> Result<()> {
        self.boundaries_and_scales.check(self)
    }
}

impl fmt::Debug for PiecewiseConstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piecewise_constant({:?}, {:?})", self.init, self.boundaries_and_scales)
    }
}
