//! Helpers for Candle tensors.

use std::fmt;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use safetensors::View as _;

use crate::error::Result;
use crate::transfers::transfer;

/// Whether `a` could be overwritten by `b`: same shape, element type and device.
pub(crate) fn alike(a: &Tensor, b: &Tensor) -> bool {
    a.shape() == b.shape() && a.dtype() == b.dtype() && a.device().same_device(b.device())
}

/// Whether two tensors read the same storage, on any device.
pub(crate) fn same_storage(a: &Tensor, b: &Tensor) -> bool {
    storage_id(a) == storage_id(b)
}

/// Identifies the storage of a tensor, on any device: equal for tensors that share memory.
#[must_use]
pub fn storage_id(tensor: &Tensor) -> usize {
    std::ptr::from_ref(&*tensor.storage_and_layout().0).addr()
}

/// The number of elements in the memory of a tensor, which a view has a part of. `None` on devices for which Candle does not
/// tell.
pub(crate) fn storage_len(tensor: &Tensor) -> Option<usize> {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(storage) => Some(len(storage)),
        Storage::Cuda(_) | Storage::Metal(_) => None,
    }
}

/// The number of elements in CPU memory.
pub(crate) fn len(storage: &CpuStorage) -> usize {
    match storage {
        CpuStorage::U8(x) => x.len(),
        CpuStorage::U32(x) => x.len(),
        CpuStorage::I64(x) => x.len(),
        CpuStorage::BF16(x) => x.len(),
        CpuStorage::F16(x) => x.len(),
        CpuStorage::F32(x) => x.len(),
        CpuStorage::F64(x) => x.len(),
        _ => usize::MAX,
    }
}

/// Whether two tensors have the same shape, element type and bits.
pub(crate) fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    a.shape() == b.shape() && a.dtype() == b.dtype() && a.data() == b.data()
}

/// The largest array that is printed with its values.
const PRINTED: usize = 32;

/// `array([[1, 2], [3, 4]], f32)`, or `array[784, 256] f32` if it has too many values.
pub(crate) fn fmt_array(tensor: &Tensor, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let dtype = tensor.dtype().as_str();
    // A tensor without elements can have any number of rows, each of them empty.
    let rows = tensor.dims().iter().rev().skip(1).fold(1, |rows: usize, &dim| rows.saturating_mul(dim));
    let values = || -> Result<Vec<f64>> {
        let flat = transfer(tensor, &Device::Cpu, "print outside of the step")?.flatten_all()?;
        Ok(flat.to_dtype(DType::F64)?.to_vec1()?)
    };
    let is_small = tensor.elem_count() <= PRINTED && rows <= PRINTED;
    match is_small.then(values) {
        Some(Ok(values)) => {
            f.write_str("array(")?;
            fmt_nested(&values, tensor.dims(), tensor.dtype(), f)?;
            write!(f, ", {dtype})")
        }
        _ => write!(f, "array{:?} {dtype}", tensor.dims()),
    }
}

fn fmt_nested(values: &[f64], dims: &[usize], dtype: DType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some((&rows, inner)) = dims.split_first() else {
        // The shortest text that parses to the same number in its own type, not in f64.
        return match (dtype, values) {
            (DType::F64, [value]) => write!(f, "{value:?}"),
            (DType::F32 | DType::F16 | DType::BF16, [value]) => write!(f, "{:?}", *value as f32),
            (_, values) => values.iter().try_for_each(|value| write!(f, "{value}")),
        };
    };
    f.write_str("[")?;
    let width = values.len().checked_div(rows).unwrap_or(0);
    for row in 0..rows {
        if row > 0 {
            f.write_str(", ")?;
        }
        fmt_nested(&values[row * width..(row + 1) * width], inner, dtype, f)?;
    }
    f.write_str("]")
}
