//! The dropout function.

use candle_core::{DType, Tensor};
use treex_core::{Error, Key, Result};

use crate::axes::position;
use crate::dtype::common_dtype;
use crate::ops;

/// `x` with elements set to zero with probability `rate`, and the others divided by `1 - rate`. The mask is
/// Flax's for the same key. Along `broadcast_dims` the mask is broadcast.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{dropout, prelude::*};
///
/// let x = Tensor::ones((4, 6), DType::F32, &Device::Cpu)?;
/// assert_eq!(dropout(&x, 0.1, Key::from(42), &[])?.dims(), [4, 6]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// If `rate` is out of range (0 to 1), or `x` lacks one of `broadcast_dims`.
pub fn dropout(x: &Tensor, rate: f64, key: Key, broadcast_dims: &[isize]) -> Result<Tensor> {
    check_rate("Dropout", rate)?;
    if rate == 0. {
        return Ok(x.clone());
    }
    if rate == 1. {
        return Ok(all_dropped(x)?);
    }
    let mut shape = x.dims().to_vec();
    for &dim in broadcast_dims {
        let Some(place) = position(dim, x.rank()) else {
            return Err(Error::argument("`Dropout` has `broadcast_dims` that its input lacks")
                .expected(format!("a dimension of {:?}", x.dims()))
                .found(dim));
        };
        shape[place] = 1;
    }
    let kept = 1. - rate;
    // As XLA computes it: a product with the rounded inverse, not a quotient.
    let scale = 1. / kept as f32;
    ops::dropout::dropout(&x.to_dtype(common_dtype(None, [x]))?, key, &shape, kept, scale)
}

/// Checks that the dropout rate of a layer is from 0 to 1.
pub(crate) fn check_rate(layer: &str, rate: f64) -> Result<()> {
    if (0. ..=1.).contains(&rate) {
        return Ok(());
    }
    Err(Error::argument(format!("`{layer}` has a rate out of range"))
        .expected("a number from 0 to 1")
        .found(rate))
}

/// Zeros, also for NaN and infinities, that stay in the graph: their gradient is zero, as in Flax.
pub(crate) fn all_dropped(x: &Tensor) -> candle_core::Result<Tensor> {
    let never = Tensor::zeros(x.shape(), DType::U8, x.device())?;
    never.where_cond(x, &x.zeros_like()?)
}
