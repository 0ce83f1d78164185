//! Sums of two tensors, on all cores: Candle's own threads wait by spinning, and take the cores from everybody else.

use std::mem::MaybeUninit;

use candle_core::{DType, Tensor};
use half::{bf16, f16};

use super::elements;
use super::fill::{Fill, collect};
use super::float::Float;
use super::fresh::Fresh;
use super::is_plain;
use crate::error::{Error, Result};

/// `x + y`, where `y` is repeated until it is as long as `x`.
///
/// # Errors
/// If `y` alone is empty, or there is no memory for the sum.
pub fn sum<T: Float>(x: &[T], y: &[T]) -> Result<Vec<T>> {
    if y.is_empty() && !x.is_empty() {
        return Err(Error::shape("nothing cannot be repeated to be added")
            .expected(format!("at least one element, for a sum with {}", x.len()))
            .found("an empty second operand"));
    }
    collect(x.len(), &Sum { x, y })
}

/// The sum of two gradients of one tensor.
pub(crate) fn sum_of_gradients(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let has_kernel = |tensor: &Tensor| {
        !tensor.track_op()
            && tensor.device().is_cpu()
            && tensor.is_contiguous()
            && tensor.dtype() == x.dtype()
    };
    if is_plain() || x.shape() != y.shape() || ![x, y].into_iter().all(has_kernel) {
        return Ok((x + y)?);
    }
    match x.dtype() {
        DType::F32 => sum_tensors::<f32>(x, y),
        DType::F64 => sum_tensors::<f64>(x, y),
        DType::BF16 => sum_tensors::<bf16>(x, y),
        DType::F16 => sum_tensors::<f16>(x, y),
        _ => Ok((x + y)?),
    }
}

fn sum_tensors<T: Float>(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(Fresh::new(sum::<T>(&elements(x)?, &elements(y)?)?, x.shape())?.into_tensor())
}

struct Sum<'a, T> {
    x: &'a [T],
    y: &'a [T],
}

// SAFETY: `x` has an element for every one of the piece, and the pieces of `y` fill it from its beginning to its
// end.
unsafe impl<T: Float> Fill<T> for Sum<'_, T> {
    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let mut at = first % self.y.len();
        let (mut x, mut piece) = (&self.x[first..first + piece.len()], piece);
        while !piece.is_empty() {
            let len = piece.len().min(self.y.len() - at);
            let (now, rest) = piece.split_at_mut(len);
            for ((sum, x), y) in now.iter_mut().zip(x).zip(&self.y[at..at + len]) {
                sum.write(T::narrow(x.widen() + y.widen()));
            }
            (x, piece, at) = (&x[len..], rest, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn what_is_shorter_is_repeated() -> Result<()> {
        assert_eq!(sum(&[1f32, 2., 3., 4., 5.], &[10., 20.])?, [11., 22., 13., 24., 15.]);
        assert!(sum::<f32>(&[], &[])?.is_empty());
        let message = sum(&[1f32, 2.], &[]).expect_err("nothing to repeat").to_string();
        assert!(message.contains("at least one element") && message.contains("empty"), "{message}");
        Ok(())
    }

    #[test]
    fn is_candles_sum() -> Result<()> {
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            for shape in [(0, 3), (1, 1), (7, 13), (700, 301)] {
                let x = Tensor::rand(-1f32, 1., shape, &Device::Cpu)?.to_dtype(dtype)?;
                let y = Tensor::rand(-1f32, 1., shape, &Device::Cpu)?.to_dtype(dtype)?;
                let both = |sum: Tensor| -> Result<_> { Ok(sum.to_dtype(DType::F64)?.to_vec2::<f64>()?) };
                assert_eq!(both(sum_of_gradients(&x, &y)?)?, both((&x + &y)?)?, "{dtype:?} {shape:?}");
                let (x, y) = (x.t()?, y.t()?);
                assert_eq!(both(sum_of_gradients(&x, &y)?)?, both((&x + &y)?)?, "with gaps, {dtype:?}");
            }
        }
        Ok(())
    }
}
