//! Transfers between Rust numbers and tensors on a device. Not every device has f64, so casts to and from f64
//! run on the CPU.

use candle_core::{DType, Device, Tensor};
use treex_core::Result;

/// All elements in order, in f64.
pub(crate) fn to_vec_f64(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.detach().flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?)
}

/// The one element of a scalar, in f64.
pub(crate) fn to_f64(x: &Tensor) -> Result<f64> {
    Ok(x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar()?)
}

/// A constant tensor with the shape, element type and device of another one.
pub(crate) fn constant_like(value: f64, like: &Tensor) -> Result<Tensor> {
    let value = Tensor::new(value, &Device::Cpu)?.to_dtype(like.dtype())?;
    Ok(value.to_device(like.device())?.broadcast_as(like.shape())?)
}
