//! Onto vectors and planes.

use candle_core::Tensor;
use treex_core::{Result, Tree};

use super::{check_floats, unit};
use crate::tree::{self, add_times, times, vdot};

/// Onto the line through 0 and `a`: `a * <x, a> / <a, a>`.
///
/// # Errors
/// If the trees differ in structure or shapes.
pub fn projection_vector<T: Tree>(x: &T, a: &T) -> Result<T> {
    [x, a].into_iter().try_for_each(|tree| check_floats("projection_vector", tree))?;
    let a = &tree::scale(1. / unit(a)?, a)?;
    times(&(vdot(x, a)? / vdot(a, a)?)?, a)
}

/// Onto the plane of all `y` with `<a, y> = b`: `x + a * (b - <x, a>) / <a, a>`.
///
/// # Errors
/// If the trees differ in structure or shapes.
pub fn projection_hyperplane<T: Tree>(x: &T, a: &T, b: f64) -> Result<T> {
    [x, a].into_iter().try_for_each(|tree| check_floats("projection_hyperplane", tree))?;
    let unit = unit(a)?;
    let a = &tree::scale(1. / unit, a)?;
    add_times(x, &distance(x, a, b / unit)?, a)
}

/// Onto a half-space, all `y` with `<a, y> <= b`: the identity inside, else [`projection_hyperplane`].
///
/// # Errors
/// If the trees differ in structure or shapes.
pub fn projection_halfspace<T: Tree>(x: &T, a: &T, b: f64) -> Result<T> {
    [x, a].into_iter().try_for_each(|tree| check_floats("projection_halfspace", tree))?;
    let unit = unit(a)?;
    let a = &tree::scale(1. / unit, a)?;
    add_times(x, &at_most_0(&distance(x, a, b / unit)?)?, a)
}

/// The smaller of a number and 0; NaN for NaN.
fn at_most_0(x: &Tensor) -> Result<Tensor> {
    Ok(x.gt(&x.zeros_like()?)?.where_cond(&x.zeros_like()?, x)?)
}

/// The distance from `x` to the plane, in multiples of `a`.
fn distance<T: Tree>(x: &T, a: &T, b: f64) -> Result<Tensor> {
    Ok((vdot(x, a)?.affine(-1., b)? / vdot(a, a)?)?)
}
