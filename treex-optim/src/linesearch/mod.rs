//! Optimizers that evaluate the loss at more than one point: L-BFGS, and the line searches it needs.
//!
//! Step them by [`Optimizer::minimize`](crate::Optimizer::minimize), which gives them the loss as a function.

pub(crate) mod backtracking;
pub(crate) mod lbfgs;
pub(crate) mod scale_by_lbfgs;
pub(crate) mod zoom;
pub(crate) mod zoom_options;
mod zoom_search;

use treex_core::{Error, ErrorKind, Leaves, Result};

use crate::engine::{Number, Terms, sum};
use crate::extra::{Extra, ValueFn};

/// The inner product of two flat trees, over the positions that both have.
pub(crate) fn vdot(a: &Leaves, b: &Leaves) -> Result<f64> {
    struct Products;

    impl Terms<1> for Products {
        #[inline(always)]
        fn terms<N: Number>(&self, u: N, p: N) -> [N; 1] {
            [u * p]
        }
    }

    Ok(sum(Products, a, b)?.total(0))
}

/// `a + scale * b`, in the type of `b`, at its positions.
pub(crate) fn add_scaled(a: &Leaves, scale: f64, b: &Leaves) -> Result<Leaves> {
    b.combine(a, |b, a| Ok((a.to_dtype(b.dtype())? + (b * scale)?)?))
}

/// The loss along a line: at the parameters plus a multiple of the updates.
struct Line<'l> {
    params: &'l Leaves,
    updates: &'l Leaves,
    value_fn: &'l ValueFn<'l>,
    /// The value at the parameters.
    value: f64,
    /// Its slope there along the updates.
    slope: f64,
}

impl<'l> Line<'l> {
    fn new(params: &'l Leaves, updates: &'l Leaves, extra: Extra<'l>) -> Result<Self> {
        let (Some(value), Some(gradient), Some(value_fn)) = (extra.value, extra.gradient, extra.value_fn)
        else {
            return Err(Error::new(ErrorKind::Argument, "a line search needs the loss")
                .expected("its value, its gradient, and both at other parameters")
                .remedy("step with `optimizer.minimize(&mut model, |model| ...)`"));
        };
        Ok(Self { params, updates, value_fn, value, slope: vdot(updates, gradient)? })
    }

    /// Value and slope after a step.
    fn at(&self, step: f64) -> Result<Point> {
        let (value, gradient) = (self.value_fn)(&add_scaled(self.params, step, self.updates)?)?;
        Ok(Point { step, value, slope: vdot(self.updates, &gradient)? })
    }

    /// The point of step 0.
    fn start(&self) -> Point {
        Point { step: 0., value: self.value, slope: self.slope }
    }
}

/// A point on a line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    step: f64,
    value: f64,
    slope: f64,
}

/// The positive part of an error; infinity for NaN.
fn excess(error: f64) -> f64 {
    if error.is_nan() { f64::INFINITY } else { error.max(0.) }
}
