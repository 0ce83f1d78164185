//! Onto intervals, elementwise.

use candle_core::Tensor;
use treex_core::extrema::{maximum, minimum};
use treex_core::{Error, Result, Tree};

use super::check_scale;

/// A bound for each element: one number, or a tree of them.
pub trait Bound<T> {
    /// The tree, not below the bound.
    ///
    /// # Errors
    /// If the bound does not fit.
    fn at_least(&self, tree: &T) -> Result<T>;

    /// The tree, not above the bound.
    ///
    /// # Errors
    /// If the bound does not fit.
    fn at_most(&self, tree: &T) -> Result<T>;
}

impl<T: Tree> Bound<T> for f64 {
    fn at_least(&self, tree: &T) -> Result<T> {
        check_number(*self)?;
        tree.map(|x| Ok(maximum(x, *self)?))
    }

    fn at_most(&self, tree: &T) -> Result<T> {
        check_number(*self)?;
        tree.map(|x| Ok(minimum(x, *self)?))
    }
}

impl<T: Tree> Bound<T> for &T {
    fn at_least(&self, tree: &T) -> Result<T> {
        tree.zip_map(self, |x, bound| or_nan(bound, &maximum(x, bound)?))
    }

    fn at_most(&self, tree: &T) -> Result<T> {
        tree.zip_map(self, |x, bound| or_nan(bound, &minimum(x, bound)?))
    }
}

/// An error for a bound that is NaN.
fn check_number(bound: f64) -> Result<()> {
    if bound.is_nan() {
        return Err(Error::argument("a bound of a projection is NaN")
            .expected("a number, or an infinity for no bound")
            .found(bound));
    }
    Ok(())
}

/// `x`, and NaN where the bound is, which Candle's maximum ignores.
fn or_nan(bound: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(bound.ne(bound)?.where_cond(bound, x)?)
}

/// Onto the non-negative orthant: `max(x, 0)`.
///
/// # Errors
/// If a Candle operation fails.
pub fn projection_non_negative<T: Tree>(tree: &T) -> Result<T> {
    // The gradient is 0 at and below 0, as in Optax.
    tree.map(|x| Ok(x.le(&x.zeros_like()?)?.where_cond(&x.zeros_like()?, x)?))
}

/// Onto a box: `min(max(x, lower), upper)`. Each bound is a number, or a tree of numbers by reference.
///
/// # Errors
/// If a bound differs in structure, shapes or element types.
pub fn projection_box<T: Tree>(tree: &T, lower: impl Bound<T>, upper: impl Bound<T>) -> Result<T> {
    upper.at_most(&lower.at_least(tree)?)
}

/// Onto a hypercube with a corner at 0: [`projection_box`] from 0 to `scale`. The unit hypercube has scale 1.
///
/// # Errors
/// As `projection_box`.
pub fn projection_hypercube<T: Tree>(tree: &T, scale: impl Bound<T>) -> Result<T> {
    projection_box(tree, 0., scale)
}

/// Onto the ball of radius `scale` in the maximum norm: [`projection_box`] from `-scale` to `scale`.
///
/// # Errors
/// If `scale` is not a positive number.
pub fn projection_linf_ball<T: Tree>(tree: &T, scale: f64) -> Result<T> {
    check_scale("projection_linf_ball", scale)?;
    projection_box(tree, -scale, scale)
}
