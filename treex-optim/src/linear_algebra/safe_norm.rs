//! Norms with finite gradients where the norm is 0.

use candle_core::shape::Dims;
use candle_core::{D, Tensor};
use treex_core::{Error, ErrorKind, Result};

use crate::losses::math::row_max;
use crate::numerics::wide;
use crate::transfer::constant_like;
use crate::tree::Order;

/// `max(norm(x), min_norm)`, the Euclidean norm over all axes, with a gradient of 0 where `min_norm` is not
/// exceeded.
///
/// # Errors
/// If `x` does not hold floats.
pub fn safe_norm(x: &Tensor, min_norm: f64) -> Result<Tensor> {
    safe_norm_with(&x.flatten_all()?, min_norm, Order::L2, 0, false)
}

/// [`safe_norm`] of another order, over some axes, which may be kept with length 1. Over several axes it is
/// the norm of all their elements as one vector.
///
/// # Errors
/// As `safe_norm`, and if there are no such axes.
pub fn safe_norm_with(
    x: &Tensor,
    min_norm: f64,
    order: Order,
    axes: impl Dims,
    keepdims: bool,
) -> Result<Tensor> {
    if !x.dtype().is_float() {
        return Err(Error::new(ErrorKind::DType, "`safe_norm` got a tensor that does not hold floats")
            .expected("a float type")
            .found(format!("`{}`", x.dtype().as_str())));
    }
    let x = x.to_dtype(wide(x.dtype()))?;
    let mut axes = axes.to_indexes(x.shape(), "safe_norm")?;
    axes.sort_unstable();
    let small = norm(&x.detach(), order, &axes)?.le(min_norm)?;
    // Ones where the norm is clamped: their norm has a finite derivative, which `where_cond` drops.
    let ones = x.ones_like()?;
    let safe = norm(&small.broadcast_as(x.shape())?.where_cond(&ones, &x)?, order, &axes)?;
    let mut safe = small.where_cond(&constant_like(min_norm, &safe)?, &safe)?;
    if !keepdims {
        for &axis in axes.iter().rev() {
            safe = safe.squeeze(axis)?;
        }
    }
    Ok(safe)
}

/// The norm over ascending axes, which are kept.
fn norm(x: &Tensor, order: Order, axes: &[usize]) -> Result<Tensor> {
    Ok(match order {
        Order::L1 => x.abs()?.sum_keepdim(axes)?,
        Order::L2 => x.sqr()?.sum_keepdim(axes)?.sqrt()?,
        Order::Inf => {
            let mut largest = x.abs()?;
            for &axis in axes {
                let rows = largest.transpose(axis, D::Minus1)?.contiguous()?;
                largest = row_max(&rows)?.unsqueeze(D::Minus1)?.transpose(axis, D::Minus1)?;
            }
            largest
        }
    })
}

/// `max(sqrt(mean(x^2)), min_rms)` over all axes, with a gradient of 0 where `min_rms` is not exceeded.
///
/// # Errors
/// If `x` does not hold floats.
pub fn safe_root_mean_squares(x: &Tensor, min_rms: f64) -> Result<Tensor> {
    let root = (x.elem_count().max(1) as f64).sqrt();
    Ok((safe_norm(x, min_rms * root)? / root)?)
}
