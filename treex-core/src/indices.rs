//! Indexes on a device, where an error for one that is out of range would read them back.

use candle_core::{DType, Device, Tensor};

use crate::constants::constant;
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

    /// `y`, whose dimensions from `axis` on begin with those of the indexes, with NaN for each index that is out of range, as
    /// in JAX: what was selected in its place gets no gradient.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn or_nan(&self, y: &Tensor, axis: usize) -> Result<Tensor> {
        self.or(f64::NAN, y, axis)
    }

    /// As [`or_nan`](Self::or_nan), with 0.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn or_zero(&self, y: &Tensor, axis: usize) -> Result<Tensor> {
        self.or(0., y, axis)
    }

    fn or(&self, value: f64, y: &Tensor, axis: usize) -> Result<Tensor> {
        let after = y.rank().saturating_sub(axis + self.is_valid.rank());
        let dims = [&vec![1; axis], self.is_valid.dims(), &vec![1; after]].concat();
        let is_valid = self.is_valid.reshape(dims)?.broadcast_as(y.shape())?;
        Ok(is_valid.where_cond(y, &number(value, y)?.broadcast_as(y.shape())?)?)
    }

    /// `y`, with NaN everywhere if an index is out of range: for what indexes write.
    ///
    /// # Errors
    /// If a Candle operation fails.
    pub fn or_all_nan(&self, y: &Tensor) -> Result<Tensor> {
        if self.is_valid.elem_count() == 0 {
            return Ok(y.clone());
        }
        // In `F32`, since a kernel for the minimum of `U8` is not on each device.
        all_nan_unless(&self.is_valid.to_dtype(DType::F32)?.min_all()?.gt(0f64)?, y)
    }
}

/// `y`, with NaN everywhere unless `condition`, a scalar in `U8`, is 1.
///
/// # Errors
/// If a Candle operation fails.
pub fn all_nan_unless(condition: &Tensor, y: &Tensor) -> Result<Tensor> {
    let marks = condition.where_cond(&number(0., y)?, &number(f64::NAN, y)?)?;
    Ok(y.broadcast_add(&marks)?)
}

/// A scalar of the type and on the device of `y`.
fn number(value: f64, y: &Tensor) -> Result<Tensor> {
    constant(&Tensor::new(value, &Device::Cpu)?.to_dtype(y.dtype())?, y.device())
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
    use candle_core::Var;

    use super::*;

    /// What is selected of 3, and whether it is NaN.
    fn checked(numbers: &[i64], dtype: DType, from_the_end: bool) -> Result<Vec<(i64, bool)>> {
        let indices = Tensor::new(numbers, &Device::Cpu)?.to_dtype(dtype)?;
        let checked = Checked::new(&indices, 3, from_the_end)?;
        let ones = Tensor::ones((numbers.len(), 1), DType::F32, &Device::Cpu)?;
        let y = checked.or_nan(&ones, 0)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(y.iter().all(|&y| y == 1. || y.is_nan()), "{y:?}");
        Ok(checked.indices.to_vec1::<i64>()?.into_iter().zip(y.into_iter().map(f32::is_nan)).collect())
    }

    #[test]
    fn what_is_out_of_range_selects_0_and_is_nan() -> Result<()> {
        let (right, wrong) = (|index| (index, false), (0, true));
        let numbers = [0, 2, 3, -1, -3, -4, i64::MAX, i64::MIN];
        assert_eq!(
            checked(&numbers, DType::I64, true)?,
            [right(0), right(2), wrong, right(2), right(0), wrong, wrong, wrong]
        );
        assert_eq!(
            checked(&numbers, DType::I64, false)?,
            [right(0), right(2), wrong, wrong, wrong, wrong, wrong, wrong]
        );
        let rows = Var::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
        let indices = Checked::new(&Tensor::new(&[1i64, 5], &Device::Cpu)?, 2, false)?;
        let selected = rows.index_select(&indices.indices, 0)?;
        let grads = indices.or_nan(&selected, 0)?.sum_all()?.backward()?;
        let grad = grads.get(&rows).expect("a row was selected").to_vec2::<f32>()?;
        assert_eq!(grad, [[0., 0.], [1., 1.]], "the index that is out of range selects nothing");
        let marked = indices.or_all_nan(&rows)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(marked.iter().all(|x| x.is_nan()), "{marked:?}");
        let valid = Checked::new(&Tensor::new(&[1i64, 0], &Device::Cpu)?, 2, false)?;
        assert_eq!(valid.or_all_nan(&rows)?.to_vec2::<f32>()?, [[1., 2.], [3., 4.]]);
        assert_eq!(indices.or_zero(&rows, 0)?.to_vec2::<f32>()?, [[1., 2.], [0., 0.]]);
        let by_column = indices.or_nan(&rows.t()?.contiguous()?, 1)?.to_vec2::<f32>()?;
        assert!(by_column.iter().all(|row| !row[0].is_nan() && row[1].is_nan()), "{by_column:?}");
        for dtype in [DType::U8, DType::U32, DType::I16, DType::I32] {
            assert_eq!(checked(&[2, 3, 200], dtype, true)?, [right(2), wrong, wrong], "{dtype:?}");
        }
        Ok(())
    }
}
