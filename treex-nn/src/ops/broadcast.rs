//! Candle's functions of two tensors that broadcast.

use candle_core::{DType, Result, Tensor};

/// `f(x, y)`, where `f` broadcasts; half types are computed in `F32` and rounded once.
///
/// The gradient of what was repeated is a sum. In half precision Candle would round it after each term, so that it stops
/// growing: at 256 in `BF16`, at 2,048 in `F16`.
pub(crate) fn broadcast(x: &Tensor, y: &Tensor, f: fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if !matches!(x.dtype(), DType::F16 | DType::BF16) {
        return f(x, y);
    }
    f(&x.to_dtype(DType::F32)?, &y.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}
