//! The mean over rows, and its transpose: one row repeated.
//!
//! On the CPU both are matrix products with ones. Candle's own sum over a leading dimension, which is also
//! what the backward pass of its broadcasts computes, walks the columns one after another and takes 10 to 190
//! times as long; the product runs on all cores, and brings its gradient with it.

use candle_core::{Result, Tensor};
use treex_core::compute::is_plain;

/// The mean over the rows of `x`, `[rows, columns]`, as `[1, columns]`.
pub(crate) fn mean_of_rows(x: &Tensor) -> Result<Tensor> {
    if is_plain() || !x.device().is_cpu() {
        return x.mean_keepdim(0);
    }
    let rows = x.dim(0)?;
    Tensor::ones((1, rows), x.dtype(), x.device())?.matmul(x)? / rows as f64
}

/// `row`, `[1, columns]`, as `[rows, columns]`.
pub(crate) fn repeat_row(row: &Tensor, rows: usize) -> Result<Tensor> {
    if is_plain() || !row.device().is_cpu() {
        return row.broadcast_as((rows, row.dim(1)?));
    }
    Tensor::ones((rows, 1), row.dtype(), row.device())?.matmul(row)
}

/// `x`, `[rows, columns]`, with `bias`, `[columns]`, added to each row.
pub(crate) fn add_to_rows(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x + repeat_row(&bias.unsqueeze(0)?, x.dim(0)?)?
}
