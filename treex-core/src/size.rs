//! Sizes that come from an argument, checked before Candle gets them: it panics where their product overflows, and
//! aborts the process where memory is missing.

use candle_core::{DType, Device, Shape, Tensor};

use crate::error::{Error, Result};

/// Sizes from which on memory is asked for ahead: below, the operations of every step would allocate twice.
const LARGE: usize = 1 << 30;

/// Checks that a tensor of this shape can be made: the products of its sizes are numbers, and there is memory for it, if it
/// has a gigabyte or more.
///
/// # Errors
/// If not.
pub fn check_size(shape: &Shape, dtype: DType) -> Result<()> {
    // Strides are products of sizes, those beside a 0 too.
    let stride = shape.dims().iter().try_fold(1usize, |product, &dim| product.checked_mul(dim.max(1)));
    let bytes = stride.and_then(|stride| stride.checked_mul(dtype.size_in_bytes().max(1)));
    let is_empty = shape.dims().contains(&0);
    match bytes {
        Some(_) if is_empty => Ok(()),
        Some(bytes) if bytes < LARGE || Vec::<u8>::new().try_reserve_exact(bytes).is_ok() => Ok(()),
        _ => Err(Error::argument("a tensor is too large for the memory")
            .found(format!("{:?} of `{}`", shape.dims(), dtype.as_str()))
            .remedy("use smaller sizes")),
    }
}

/// Zeros whose size is [checked](check_size).
///
/// # Errors
/// If there is no memory for them.
pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    check_size(&shape, dtype)?;
    Ok(Tensor::zeros(shape, dtype, device)?)
}

/// Checks that `function` can compute with `x`: off the CPU, Candle's kernels refuse tensors without elements, and its sums
/// over them panic.
///
/// # Errors
/// If not.
pub fn check_elements(function: &str, x: &Tensor) -> Result<()> {
    if x.elem_count() > 0 || x.device().is_cpu() {
        return Ok(());
    }
    Err(Error::shape(format!("`{function}` cannot compute without elements on this device"))
        .expected("at least one element")
        .found(format!("{:?}", x.dims()))
        .remedy("leave an empty batch out, or compute on `Device::Cpu`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_memory_holds() {
        for shape in [vec![usize::MAX], vec![1 << 62, 2], vec![0, 1 << 62, 1 << 62], vec![1 << 50, 8]] {
            let error = check_size(&Shape::from(shape), DType::F32).unwrap_err();
            assert!(error.to_string().ends_with("use smaller sizes"), "{error}");
        }
        for shape in [vec![], vec![0], vec![1 << 40, 0], vec![3, 4]] {
            assert!(check_size(&Shape::from(shape), DType::F64).is_ok());
        }
    }
}
