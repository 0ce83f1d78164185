//! Indexes on a device, where an error for one that is out of range would read them back.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::transfers::transfer;

/// Indexes that were checked where they are.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The indexes in `I64`, 0 in the place of one that is out of range: what may select.
    pub indices: Tensor,
    /// `U8`, in the same shape: 1 where the index is in range.
    is_valid: Tensor,
}

impl Checked {
    /// Checks that `indices`, of an integer type, are from 0 to `len - 1`, or from `-len` if they may count from the end.
    ///
    /// # Errors
    /// If a Candle operation fails. An index that is out of range is no error: see [`or_nan`](Self::or_nan).
    pub fn new(indices: &Tensor, len: usize, from_the_end: bool) -> Result<Self> {
        let is_signed = !matches!(indices.dtype(), DType::U8 | DType::U32);
        let mut indices = as_i64(indices)?;
        let zeros = indices.zeros_like()?;
        if is_signed && from_the_end {
            // The sum is of negative ones alone, so that none overflows.
            let is_negative = indices.lt(&zeros)?;
            let from_the_start = is_negative.where_cond(&indices, &zeros)?.affine(1., len as f64)?;
            indices = is_negative.where_cond(&from_the_start, &indices)?;
        }
        let mut is_valid = indices.lt(&zeros.affine(1., len as f64)?)?;
        if is_signed {
            is_valid = (is_valid * indices.ge(&zeros)?)?;
        }
        Ok(Self { indices: is_valid.where_cond(&indices, &zeros)?, is_valid })
    }

    /// `y`, whose first dimensions are those of the indexes, with NaN for each index that is out of range, as in JAX.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn or_nan(&self, y: &Tensor) -> Result<Tensor> {
        // 1 / 1 * 0 is 0, and 1 / 0 * 0 is NaN.
        let nan = self.is_valid.to_dtype(y.dtype())?.recip()?.affine(0., 0.)?;
        let dims = [nan.dims(), &vec![1; y.rank().saturating_sub(nan.rank())]].concat();
        Ok(y.broadcast_add(&nan.reshape(dims)?)?)
    }
}

/// In `I64`, contiguous.
fn as_i64(indices: &Tensor) -> Result<Tensor> {
    if indices.device().is_cpu() || !matches!(indices.dtype(), DType::I16 | DType::I32) {
        return Ok(indices.to_dtype(DType::I64)?.contiguous()?);
    }
    // Candle has no casts of these types on a device.
    let instead = "give indexes in `u32` or `i64`: those of `i16` and `i32` are cast on the CPU";
    transfer(&transfer(indices, &Device::Cpu, instead)?.to_dtype(DType::I64)?, indices.device(), instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(numbers: &[i64], dtype: DType, from_the_end: bool) -> Result<(Vec<i64>, Vec<f32>)> {
        let indices = Tensor::new(numbers, &Device::Cpu)?.to_dtype(dtype)?;
        let checked = Checked::new(&indices, 3, from_the_end)?;
        let y = Tensor::ones((numbers.len(), 1), DType::F32, &Device::Cpu)?;
        Ok((checked.indices.to_vec1()?, checked.or_nan(&y)?.flatten_all()?.to_vec1()?))
    }

    #[test]
    fn what_is_out_of_range_selects_0_and_is_nan() -> Result<()> {
        let numbers = [0, 2, 3, -1, -3, -4, i64::MAX, i64::MIN];
        let (selected, y) = checked(&numbers, DType::I64, true)?;
        assert_eq!(selected, [0, 2, 0, 2, 0, 0, 0, 0]);
        assert_eq!(y.map_nan(), [1., 1., -1., 1., 1., -1., -1., -1.]);
        let (selected, y) = checked(&numbers, DType::I64, false)?;
        assert_eq!(selected, [0, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(y.map_nan(), [1., 1., -1., -1., -1., -1., -1., -1.]);
        for dtype in [DType::U8, DType::U32, DType::I16, DType::I32] {
            let (selected, y) = checked(&[2, 3, 200], dtype, true)?;
            assert_eq!((selected, y.map_nan()), (vec![2, 0, 0], vec![1., -1., -1.]), "{dtype:?}");
        }
        Ok(())
    }

    trait MapNan {
        /// -1 for NaN, which is not equal to itself.
        fn map_nan(self) -> Vec<f32>;
    }

    impl MapNan for Vec<f32> {
        fn map_nan(self) -> Vec<f32> {
            self.into_iter().map(|x| if x.is_nan() { -1. } else { x }).collect()
        }
    }
}
