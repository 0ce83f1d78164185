//! Schedules in sequence.

use std::fmt;

use treex_core::{Error, Result};

use super::{Curve, Schedule};

/// See [`join_schedules`].
#[derive(Clone)]
pub struct JoinSchedules {
    schedules: Vec<Schedule>,
    boundaries: Vec<u64>,
}

/// The first schedule up to the first boundary, the second up to the next boundary, and so on. Each counts
/// its steps from 0. There must be one boundary fewer than schedules.
///
/// ```
/// # use treex_optim::{Curve, constant, join_schedules, linear};
/// let rate = join_schedules([constant(0.5), linear(1.0, 0.0, 4).into()], [3]);
/// assert_eq!([0, 2, 3, 4, 7, 9].map(|count| rate.value(count)), [0.5, 0.5, 1.0, 0.75, 0.0, 0.0]);
/// ```
#[must_use]
pub fn join_schedules(
    schedules: impl IntoIterator<Item = Schedule>,
    boundaries: impl IntoIterator<Item = u64>,
) -> JoinSchedules {
    JoinSchedules { schedules: schedules.into_iter().collect(), boundaries: boundaries.into_iter().collect() }
}

impl Curve for JoinSchedules {
    /// NaN without any schedule, which [`check`](Self::check) reports.
    fn value(&self, count: u64) -> f64 {
        let mut later = self.schedules.iter().skip(1).zip(&self.boundaries);
        let reached = later.rfind(|&(_, &boundary)| boundary <= count);
        match (reached, self.schedules.first()) {
            (Some((schedule, boundary)), _) => schedule.value(count - boundary),
            (None, Some(first)) => first.value(count),
            (None, None) => f64::NAN,
        }
    }

    fn check(&self) -> Result<()> {
        if self.schedules.len() != self.boundaries.len() + 1 {
            return Err(Error::argument(format!("`{self:?}` has the wrong number of boundaries"))
                .expected("one less than the number of schedules")
                .found(format!("{} for {} schedules", self.boundaries.len(), self.schedules.len()))
                .remedy("a boundary is the first step of the next schedule"));
        }
        self.schedules.iter().try_for_each(|schedule| schedule.0.check())
    }
}

impl fmt::Debug for JoinSchedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join_schedules({:?}, {:?})", self.schedules, self.boundaries)
    }
}
