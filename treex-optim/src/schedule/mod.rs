//! Schedules: numbers that depend on the step. They have Optax's names, without `_schedule`.
//!
//! | | |
//! |---|---|
//! | smooth | [`constant`], [`linear`], [`polynomial`], [`exponential_decay`], [`cosine_decay`] |
//! | piecewise | [`piecewise_constant`], [`piecewise_interpolate`], [`linear_onecycle`], [`cosine_onecycle`] |
//! | with a warm-up | [`warmup_constant`], [`warmup_cosine`], [`warmup_cosine_decay`], [`warmup_exponential_decay`] |
//! | composed | [`join_schedules`], [`sgdr`], and [`Schedule::new`] around a closure |
//!
//! Steps are counted from 0. Invalid arguments, such as a decay in 0 steps, are errors of
//! [`check`](Curve::check), which an optimizer calls at `init`, so that a schedule is written without a
//! `?`. A value that is not finite is an error at its step.

use std::fmt;
use std::sync::Arc;

use treex_core::{Error, Result};

use crate::scalar::Count;

mod config;
mod cosine_decay;
mod cosine_onecycle;
mod exponential_decay;
mod join_schedules;
mod linear_onecycle;
mod piecewise_constant;
mod piecewise_interpolate;
mod polynomial;
mod scales;
mod sgdr;
mod warmup_constant;
mod warmup_cosine_decay;
mod warmup_exponential_decay;

pub use config::{CurveConfig, ScheduleConfig};
pub use cosine_decay::{CosineDecay, cosine_decay};
pub use cosine_onecycle::{CosineOnecycle, cosine_onecycle};
pub use exponential_decay::{ExponentialDecay, exponential_decay};
pub use join_schedules::{JoinSchedules, join_schedules};
pub use linear_onecycle::{LinearOnecycle, linear_onecycle};
pub use piecewise_constant::{PiecewiseConstant, piecewise_constant};
pub use piecewise_interpolate::{Interpolation, PiecewiseInterpolate, piecewise_interpolate};
pub use polynomial::{Polynomial, linear, polynomial};
pub use sgdr::{Sgdr, sgdr};
pub use warmup_constant::{WarmupConstant, warmup_constant};
pub use warmup_cosine_decay::{WarmupCosineDecay, warmup_cosine, warmup_cosine_decay};
pub use warmup_exponential_decay::{WarmupExponentialDecay, warmup_exponential_decay};

/// A curve over the steps of training. A number is one, which never changes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a schedule",
    note = "write a number with a point (`1.0`), a schedule such as `warmup_cosine(1e-3, 100, 10_000)`, or \
            `Schedule::new(\"name\", |count| ...)` around a closure"
)]
pub trait Curve: fmt::Debug + Send + Sync + 'static {
    /// The value at the step after `count` steps: 0 is the first.
    fn value(&self, count: u64) -> f64;

    /// Checks the arguments. An optimizer calls it at `init`, so that a curve is written without a `?`.
    ///
    /// # Errors
    /// If an argument is out of range.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Whether every step has the same value.
    fn is_constant(&self) -> bool {
        false
    }
}

impl Curve for f64 {
    fn value(&self, _count: u64) -> f64 {
        *self
    }

    fn is_constant(&self) -> bool {
        true
    }
}

/// A type-erased [`Curve`]. Cheap to clone, and prints as it was written.
///
/// ```
/// use treex_optim::{Schedule, cosine_decay, sgd};
///
/// let cosine = Schedule::from(cosine_decay(1.0, 8));
/// assert_eq!(cosine.value(4), 0.5);
/// assert_eq!(format!("{cosine:?}"), "cosine_decay(1.0, 8)");
///
/// let own = Schedule::new("1 / (1 + c)", |count| 1.0 / (1.0 + count as f64));
/// assert_eq!(own.value(3), 0.25);
/// let optimizer = sgd(own);
/// # let _ = optimizer;
/// ```
#[derive(Clone)]
pub struct Schedule(Arc<dyn Curve>);

impl Schedule {
    /// A closure, with a name for printing.
    pub fn new(name: impl Into<String>, curve: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(Named { name: name.into(), curve }))
    }

    /// The value at the step after `count` steps.
    #[must_use]
    pub fn value(&self, count: u64) -> f64 {
        self.0.value(count)
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.0.is_constant()
    }

    /// Checks the curve and its first value; `what` names the hyperparameter in the error.
    pub(crate) fn check(&self, what: &str) -> Result<()> {
        self.0.check()?;
        self.finite(0, what).map(|_| ())
    }

    /// The count that a state needs for it: `None` for a constant.
    pub(crate) fn start(&self, what: &str) -> Result<Option<Count>> {
        self.check(what)?;
        if self.is_constant() { Ok(None) } else { Count::zero().map(Some) }
    }

    /// The value of this step; advances the count.
    pub(crate) fn step(&self, count: &mut Option<Count>, what: &str) -> Result<f64> {
        let value = self.at(count.as_ref(), what)?;
        if let Some(count) = count {
            count.advance()?;
        }
        Ok(value)
    }

    /// The value for a state's count, which is `None` for a constant.
    pub(crate) fn at(&self, count: Option<&Count>, what: &str) -> Result<f64> {
        self.finite(count.map_or(Ok(0), Count::get)?, what)
    }

    fn finite(&self, count: u64, what: &str) -> Result<f64> {
        let value = self.value(count);
        if value.is_finite() {
            return Ok(value);
        }
        Err(Error::argument(format!("`{what}` is `{self:?}`, which is not finite at step {count}"))
            .expected("a finite number")
            .found(value)
            .remedy("correct the schedule; steps are counted from 0"))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<C: Curve> From<C> for Schedule {
    fn from(curve: C) -> Self {
        Self(Arc::new(curve))
    }
}

/// See [`Schedule::new`].
struct Named<F> {
    name: String,
    curve: F,
}

impl<F> fmt::Debug for Named<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl<F: Fn(u64) -> f64 + Send + Sync + 'static> Curve for Named<F> {
    fn value(&self, count: u64) -> f64 {
        (self.curve)(count)
    }
}

/// The same value at every step. A number converts to it where a schedule is expected.
#[must_use]
pub fn constant(value: f64) -> Schedule {
    value.into()
}

/// Prints an option of a builder that differs from its default.
fn fmt_option<T: fmt::Debug + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    value: T,
    default: T,
) -> fmt::Result {
    if value == default { Ok(()) } else { write!(f, ".{name}({value:?})") }
}

/// An error unless a power, or what has one, is a number and not negative: its values would be NaN or infinite.
fn check_power(curve: &impl fmt::Debug, name: &str, value: f64) -> Result<()> {
    if value >= 0. && value.is_finite() {
        return Ok(());
    }
    Err(Error::argument(format!("`{name}` of `{curve:?}` is out of range"))
        .expected("a finite number, at least 0")
        .found(value)
        .remedy("the schedule would be NaN or infinite at some step"))
}

/// An error unless `steps` is more than `least`.
fn check_steps(curve: &impl fmt::Debug, name: &str, steps: u64, least: u64) -> Result<()> {
    if steps > least {
        return Ok(());
    }
    Err(Error::argument(format!("`{name}` of `{curve:?}` is too small"))
        .expected(format!("more than {least}"))
        .found(steps)
        .remedy(format!("`{name}` counts every step up to the end, those of the warm-up too")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_print_as_written() {
        let cases: [(Schedule, &str); 18] = [
            (1e-3.into(), "0.001"),
            (linear(1., 0., 10).into(), "linear(1.0, 0.0, 10)"),
            (linear(1., 0., 10).begin(3).into(), "linear(1.0, 0.0, 10).begin(3)"),
            (polynomial(1., 0., 2., 10).into(), "polynomial(1.0, 0.0, 2.0, 10)"),
            (cosine_decay(0.1, 10).into(), "cosine_decay(0.1, 10)"),
            (
                cosine_decay(0.1, 10).alpha(0.5).exponent(2.).into(),
                "cosine_decay(0.1, 10).alpha(0.5).exponent(2.0)",
            ),
            (warmup_cosine(0.1, 2, 10).into(), "warmup_cosine(0.1, 2, 10)"),
            (
                warmup_cosine_decay(0., 0.1, 2, 10, 0.01).exponent(2.).into(),
                "warmup_cosine_decay(0.0, 0.1, 2, 10, 0.01).exponent(2.0)",
            ),
            (warmup_constant(0., 0.1, 2).into(), "warmup_constant(0.0, 0.1, 2)"),
            (
                exponential_decay(0.1, 2, 0.5).begin(3).staircase(true).end(0.01).into(),
                "exponential_decay(0.1, 2, 0.5).begin(3).staircase(true).end(0.01)",
            ),
            (
                warmup_exponential_decay(0., 0.1, 2, 3, 0.5).end(0.01).into(),
                "warmup_exponential_decay(0.0, 0.1, 2, 3, 0.5).end(0.01)",
            ),
            (
                piecewise_constant(0.1, [(5, 0.5), (2, 0.1)]).into(),
                "piecewise_constant(0.1, [(2, 0.1), (5, 0.5)])",
            ),
            (
                piecewise_interpolate(Interpolation::Cosine, 0.1, [(2, 0.1)]).into(),
                "piecewise_interpolate(Interpolation::Cosine, 0.1, [(2, 0.1)])",
            ),
            (
                linear_onecycle(9, 0.1)
                    .pct_start(0.2)
                    .pct_final(0.9)
                    .div_factor(5.)
                    .final_div_factor(2.)
                    .into(),
                "linear_onecycle(9, 0.1).pct_start(0.2).pct_final(0.9).div_factor(5.0).final_div_factor(2.0)",
            ),
            (cosine_onecycle(9, 0.1).into(), "cosine_onecycle(9, 0.1)"),
            (sgdr([warmup_cosine(0.1, 2, 10)]).into(), "sgdr([warmup_cosine(0.1, 2, 10)])"),
            (
                join_schedules([constant(0.1), linear(1., 0., 10).into()], [3]).into(),
                "join_schedules([0.1, linear(1.0, 0.0, 10)], [3])",
            ),
            (Schedule::new("inverse", |count| 1. / count as f64), "inverse"),
        ];
        for (schedule, text) in cases {
            assert_eq!(format!("{schedule:?}"), text);
        }
    }

    #[test]
    fn long_trainings_and_no_warmup() {
        let long = cosine_decay(1., 10_000_000_000);
        assert!(
            long.value(1_000_000) < 1.
                && (long.value(5_000_000_000) - 0.5).abs() < 1e-12
                && long.value(u64::MAX) == 0.
        );
        assert_eq!(warmup_cosine(0.1, 0, 10).value(0), 0.1);
        assert_eq!(linear(0., 1., 2).value(u64::MAX), 1.);
    }

    #[test]
    fn invalid_schedules_are_errors() {
        let upside_down = warmup_cosine(0.1, 10, 5);
        assert!(upside_down.value(20).is_nan());
        let cases: [(Schedule, &str); 9] = [
            (upside_down.into(), "`decay_steps` of `warmup_cosine(0.1, 10, 5)` is too small"),
            (cosine_decay(0.1, 0).into(), "`decay_steps` of `cosine_decay(0.1, 0)` is too small"),
            (linear_onecycle(0, 0.1).into(), "`steps` of `linear_onecycle(0, 0.1)` is too small"),
            (cosine_onecycle(0, 0.1).into(), "`steps` of `cosine_onecycle(0, 0.1)` is too small"),
            (piecewise_constant(0.1, [(5, 0.5), (7, -0.1)]).into(), "has a factor out of range at step 7 on"),
            (
                piecewise_interpolate(Interpolation::Linear, 0.1, [(2, f64::NAN)]).into(),
                "has a factor out of range at step 2 on",
            ),
            (join_schedules([constant(1.)], [3]).into(), "found 1 for 1 schedules"),
            (
                join_schedules([constant(1.), cosine_decay(0.1, 0).into()], [3]).into(),
                "`cosine_decay(0.1, 0)`",
            ),
            (sgdr([]).into(), "`sgdr` has no cycles"),
        ];
        for (schedule, expected) in cases {
            let error = schedule.check("learning_rate").unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
