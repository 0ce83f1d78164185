//! Schedules: numbers that depend on the step.

use std::fmt;
use std::sync::Arc;

use treex_core::{Error, Result};

use crate::count::Count;

mod cosine_decay;
mod polynomial;
mod warmup_cosine_decay;

pub use cosine_decay::{CosineDecay, cosine_decay};
pub use polynomial::{Polynomial, linear, polynomial};
pub use warmup_cosine_decay::{WarmupCosineDecay, warmup_cosine, warmup_cosine_decay};

/// A curve over the steps of training. A number is one, which never changes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a schedule",
    note = "write a number with a point (`1.0`), a schedule such as `warmup_cosine(1e-3, 100, 10_000)`, or \
            `Schedule::new(\"name\", |count| ...)` around a closure"
)]
pub trait Curve: fmt::Debug + Send + Sync + 'static {
    /// The value at the step that has `count` steps before it: 0 is the first.
    fn value(&self, count: u64) -> f64;

    /// Whether the numbers that describe it make sense. Asked by whoever is initialized with it, so that a
    /// curve can be written down without a `?`.
    ///
    /// # Errors
    /// If they do not.
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

/// Any [`Curve`], its type forgotten. Cheap to clone, and prints as it was written.
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
    /// A closure, under a name by which it prints.
    pub fn new(name: impl Into<String>, curve: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(Named { name: name.into(), curve }))
    }

    /// The value at the step that has `count` steps before it.
    #[must_use]
    pub fn value(&self, count: u64) -> f64 {
        self.0.value(count)
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.0.is_constant()
    }

    /// Whether it can be started from; `what` it gives is for the error.
    pub(crate) fn check(&self, what: &str) -> Result<()> {
        self.0.check()?;
        self.finite(0, what).map(|_| ())
    }

    /// The value for a state's count, which is absent where it does not matter.
    pub(crate) fn at(&self, count: Option<&Count>, what: &str) -> Result<f64> {
        self.finite(count.map_or(Ok(0), Count::get)?, what)
    }

    fn finite(&self, count: u64, what: &str) -> Result<f64> {
        let value = self.value(count);
        if value.is_finite() {
            return Ok(value);
        }
        Err(Error::argument(format!("`{what}` is `{self:?}`, which is no number to step by at step {count}"))
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

/// The same value at every step. Where a schedule is asked for, the number alone does as well.
#[must_use]
pub fn constant(value: f64) -> Schedule {
    value.into()
}

/// An error unless `steps`, from where a curve falls to its end, are more than `least`.
fn check_steps(curve: &impl fmt::Debug, name: &str, steps: u64, least: u64) -> Result<()> {
    if steps > least {
        return Ok(());
    }
    Err(Error::argument(format!("`{name}` of `{curve:?}` is too small"))
        .expected(format!("more than {least}"))
        .found(steps)
        .remedy("`decay_steps` counts every step up to the end, those of the warm-up too"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_it_was_written() {
        let cases: [(Schedule, &str); 9] = [
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
        let upside_down = warmup_cosine(0.1, 10, 5);
        assert!(upside_down.check().is_err());
        assert!(upside_down.value(20).is_nan());
    }
}
