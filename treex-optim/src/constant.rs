//! Arguments that are read as numbers, so that nothing behind them would be differentiated: an error if that is asked for.

use candle_core::Tensor;
use treex_core::{Error, Result};

/// An error if `tensor` is differentiated.
pub(crate) fn check_constant(function: &str, tensor: &Tensor) -> Result<()> {
    if !tensor.track_op() {
        return Ok(());
    }
    Err(Error::argument(format!("`{function}` cannot be differentiated, and its argument is"))
        .expected("a constant")
        .remedy("call it outside of the closure of a gradient, or pass `stop_gradient` or `detach` of its argument"))
}
