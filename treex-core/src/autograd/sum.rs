//! Sums of gradients, on all cores. Candle's own threads would spin while they wait, and take cores from other work.

use candle_core::{DType, Tensor};
use treex_kernels::add::Add;

use super::elements::{Element, elements};
use super::reference::is_reference;
use super::storage::OwnedStorage;
use crate::error::Result;
use crate::match_float;

/// A sum of gradients of one tensor. A sum of thousands of ones in half precision would stall, so from the second term
/// on it is in `f32`; the end is in the type of the first.
#[derive(Clone, Default)]
pub(crate) struct GradientSum {
    sum: Option<Tensor>,
    dtype: Option<DType>,
}

impl GradientSum {
    pub(crate) fn add(&mut self, term: Tensor) -> Result<()> {
        self.sum = Some(match &self.sum {
            Some(sum) => sum_of_gradients(&widened(sum)?, &widened(&term)?)?,
            None => {
                self.dtype = Some(term.dtype());
                term
            }
        });
        Ok(())
    }

    /// The sum, if there was a term.
    pub(crate) fn finish(self) -> Result<Option<Tensor>> {
        Ok(match (self.sum, self.dtype) {
            (Some(sum), Some(dtype)) => Some(sum.to_dtype(dtype)?),
            _ => None,
        })
    }
}

fn widened(x: &Tensor) -> Result<Tensor> {
    Ok(if matches!(x.dtype(), DType::BF16 | DType::F16) { x.to_dtype(DType::F32)? } else { x.clone() })
}

/// The sum of two gradients of one tensor.
pub(crate) fn sum_of_gradients(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let has_kernel = |tensor: &Tensor| {
        !tensor.track_op()
            && tensor.device().is_cpu()
            && tensor.is_contiguous()
            && tensor.dtype() == x.dtype()
    };
    if is_reference() || x.shape() != y.shape() || ![x, y].into_iter().all(has_kernel) {
        return Ok((x + y)?);
    }
    match_float!(x.dtype(), T in [f32, f64, bf16, f16] => sum_tensors::<T>(x, y), else Ok((x + y)?))
}

fn sum_tensors<T: Element + Add>(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    Ok(OwnedStorage::new(T::broadcast_add(&elements(x)?, &elements(y)?)?, x.shape())?.into_tensor())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn equals_candles_sum() -> Result<()> {
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            for shape in [(0, 3), (1, 1), (7, 13), (700, 301)] {
                let x = Tensor::rand(-1f32, 1., shape, &Device::Cpu)?.to_dtype(dtype)?;
                let y = Tensor::rand(-1f32, 1., shape, &Device::Cpu)?.to_dtype(dtype)?;
                let both = |sum: Tensor| -> Result<_> { Ok(sum.to_dtype(DType::F64)?.to_vec2::<f64>()?) };
                assert_eq!(both(sum_of_gradients(&x, &y)?)?, both((&x + &y)?)?, "{dtype:?} {shape:?}");
                let (x, y) = (x.t()?, y.t()?);
                assert_eq!(both(sum_of_gradients(&x, &y)?)?, both((&x + &y)?)?, "not contiguous, {dtype:?}");
            }
        }
        Ok(())
    }
}
