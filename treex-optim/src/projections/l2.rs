//! Onto Euclidean norms.

use candle_core::Tensor;
use treex_core::extrema::maximum;
use treex_core::{Result, Tree};

use super::{check_floats, check_scale, unit};
use crate::tree::{self, times, vdot};

/// Onto the sphere of radius `scale`: `x * scale / norm(x)`. A tree of zeros becomes NaN.
///
/// # Errors
/// If `scale` is not a positive number, or a leaf does not hold floats.
pub fn projection_l2_sphere<T: Tree>(tree: &T, scale: f64) -> Result<T> {
    check_scale("projection_l2_sphere", scale)?;
    check_floats("projection_l2_sphere", tree)?;
    let tree = tree::scale(1. / unit(tree)?, tree)?;
    scaled(&tree, &vdot(&tree, &tree)?, scale)
}

/// Onto the ball of radius `scale`: `x * scale / max(norm(x), scale)`.
///
/// # Errors
/// If `scale` is not a positive number, or a leaf does not hold floats.
pub fn projection_l2_ball<T: Tree>(tree: &T, scale: f64) -> Result<T> {
    check_scale("projection_l2_ball", scale)?;
    check_floats("projection_l2_ball", tree)?;
    // Also of `scale`, whose square would overflow.
    let unit = unit(tree)?.max(1.).max(scale);
    let tree = tree::scale(1. / unit, tree)?;
    // The maximum under the root, where it keeps the gradient at 0 a number.
    scaled(&tree, &maximum(&vdot(&tree, &tree)?, (scale / unit).powi(2))?, scale)
}

fn scaled<T: Tree>(tree: &T, square: &Tensor, scale: f64) -> Result<T> {
    times(&(square.sqrt()?.recip()? * scale)?, tree)
}
