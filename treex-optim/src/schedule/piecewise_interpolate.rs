//! Interpolation between knots, linear or by half cosines.

use std::f64::consts::PI;
use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::Result;

use super::Curve;
use super::scales::Scales;

/// The interpolation between two knots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Linear: `start + (end - start) * x`, for `x` from 0 to 1.
    Linear,
    /// Half a cosine: `end + (start - end) / 2 * (cos(pi * x) + 1)`.
    Cosine,
}

impl Interpolation {
    /// The value at `count` on the curve from `(0, init)` through `knots`, pairs of a step and a value in the
    /// order of the steps. After the last knot it is constant.
    pub(super) fn interpolate(
        self,
        init: f64,
        knots: impl IntoIterator<Item = (u64, f64)>,
        count: u64,
    ) -> f64 {
        let (mut from, mut start) = (0, init);
        for (to, end) in knots {
            if count < to {
                let done = (count - from) as f64 / (to - from) as f64;
                return match self {
                    Self::Linear => (end - start) * done + start,
                    Self::Cosine => end + (start - end) / 2. * ((PI * done).cos() + 1.),
                };
            }
            (from, start) = (to, end);
        }
        start
    }
}

/// See [`piecewise_interpolate`].
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PiecewiseInterpolate {
    interpolate_type: Interpolation,
    init: f64,
    boundaries_and_scales: Scales,
}

/// [`piecewise_constant`](super::piecewise_constant), interpolated: at each boundary the value is the
/// product of `init` and of all scales so far, and between boundaries it is interpolated. Scales must not be
/// negative.
///
/// ```
/// # use treex_optim::{Curve, Interpolation, piecewise_interpolate};
/// let rate = piecewise_interpolate(Interpolation::Linear, 1.0, [(2, 0.5), (4, 0.0)]);
/// assert_eq!([0, 1, 2, 3, 4, 9].map(|count| rate.value(count)), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
/// ```
#[must_use]
pub fn piecewise_interpolate(
    interpolate_type: Interpolation,
    init: f64,
    boundaries_and_scales: impl IntoIterator<Item = (u64, f64)>,
) -> PiecewiseInterpolate {
    PiecewiseInterpolate { interpolate_type, init, boundaries_and_scales: Scales::new(boundaries_and_scales) }
}

impl Curve for PiecewiseInterpolate {
    fn value(&self, count: u64) -> f64 {
        let knots = self.boundaries_and_scales.iter().scan(self.init, |value, (boundary, scale)| {
            *value *= scale;
            Some((boundary, *value))
        });
        self.interpolate_type.interpolate(self.init, knots, count)
    }

    fn check(&self) -> Result<()> {
        self.boundaries_and_scales.check(self)
    }
}

impl fmt::Debug for PiecewiseInterpolate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interpolate_type, init, boundaries_and_scales } = self;
        write!(
            f,
            "piecewise_interpolate(Interpolation::{interpolate_type:?}, {init:?}, {boundaries_and_scales:?})"
        )
    }
}
