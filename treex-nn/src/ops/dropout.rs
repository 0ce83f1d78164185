//! Dropout as one operation that does not store its mask: backward draws it again.

use candle_core::{Tensor, WithDType};
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, elements, is_reference};
use treex_core::device::random::bernoulli;
use treex_core::device::{self, has_kernels};
use treex_core::random::Bernoulli;
use treex_core::transfers::transfer;
use treex_core::{Key, Result, with_elements};
use treex_kernels::dropout::Dropout;

/// `x * scale` with probability `kept`, otherwise 0, also where `x` is not finite. The mask is
/// `jax.random.bernoulli(key, kept, mask)`, whose shape broadcasts to that of `x`.
pub(crate) fn dropout(x: &Tensor, key: Key, mask: &[usize], kept: f64, scale: f32) -> Result<Tensor> {
    if is_reference() || !has_kernels(x) || mask != x.dims() {
        return reference(x, key, mask, kept, scale);
    }
    let operation = Masked { key, kept: Bernoulli::new(kept as f32), scale };
    let y = operation.apply(x)?;
    attach(operation, &[x], y)
}

fn reference(x: &Tensor, key: Key, mask: &[usize], kept: f64, scale: f32) -> Result<Tensor> {
    let samples = match bernoulli(key, Bernoulli::new(kept as f32), &mask.into(), x.device())? {
        Some(samples) => samples,
        None => {
            let instead = "set the rate to 0: the bits of a mask are drawn on the CPU";
            transfer(&key.bernoulli(kept, mask)?, x.device(), instead)?
        }
    };
    let mask = samples.broadcast_as(x.shape())?;
    let scaled = (x * f64::from(scale))?;
    Ok(mask.where_cond(&scaled, &scaled.zeros_like()?)?)
}

struct Masked {
    key: Key,
    kept: Bernoulli,
    scale: f32,
}

impl Masked {
    fn apply(&self, x: &Tensor) -> Result<OwnedStorage> {
        let Self { key, kept, scale } = *self;
        let x = &x.detach().contiguous()?;
        if !x.device().is_cpu() {
            return device::dropout::dropout(x, key, kept, device::rounded(scale, x.dtype()).into());
        }
        with_elements!(x, T => {
            let y = T::dropout(&elements(x)?, key.words(), kept, T::from_f64(scale.into()))?;
            OwnedStorage::new(y, x.shape())
        })
    }
}

impl Operation for Masked {
    fn name(&self) -> &'static str {
        "dropout"
    }

    /// The Jacobian is diagonal, so its product with the gradient is the forward pass again.
    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.apply(cx.cotangent()?)?.into_tensor())])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use treex_core::autograd::with_reference;

    use super::*;
    use crate::ops::testing::value_and_gradients;

    const KEPT: f64 = 0.9;

    fn scale() -> f32 {
        1. / KEPT as f32
    }

    #[test]
    fn kernel_equals_reference_composition() -> Result<()> {
        for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
            for dims in [(0, 3), (1, 1), (5, 7), (40, 33), (301, 250)] {
                let x = (Key::from(0).normal(dims, DType::F32)? * 3.)?.to_dtype(dtype)?;
                let shape = [dims.1, dims.0];
                for mask in [shape, [1, dims.0], [dims.1, 1]] {
                    // Of a view, not of contiguous memory.
                    let drop = |[x]: [&Tensor; 1]| dropout(&x.t()?, Key::from(3), &mask, KEPT, scale());
                    let found = value_and_gradients([&x], drop)?;
                    let expected = with_reference(|| value_and_gradients([&x], drop))?;
                    // Bits, but for the sign of zeros, which Candle's product loses.
                    let bits =
                        |x: &[Vec<f64>]| x.concat().iter().map(|x| (x + 0.).to_bits()).collect::<Vec<_>>();
                    assert!(bits(&found) == bits(&expected), "{dtype:?} {dims:?} {mask:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn dropped_elements_are_zero_also_of_infinity_and_nan() -> Result<()> {
        let odd = [f32::INFINITY, f32::NAN, f32::NEG_INFINITY, f32::MAX].repeat(100);
        for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
            let x = Tensor::new(odd.as_slice(), &Device::Cpu)?.to_dtype(dtype)?;
            let kept = Key::from(3).bernoulli(KEPT, 400)?.to_vec1::<u8>()?;
            let y =
                dropout(&x, Key::from(3), &[400], KEPT, scale())?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            assert!(kept.iter().zip(&y).all(|(&kept, y)| (kept == 0) == (*y == 0.)), "{dtype:?}");
            assert!(kept.contains(&0) && kept.contains(&1));
        }
        Ok(())
    }

    /// A view with an offset into its storage.
    #[test]
    fn views() -> Result<()> {
        let x = Key::from(0).normal((9, 8), DType::F32)?;
        let of = |x: &Tensor| dropout(&x.narrow(0, 2, 5)?, Key::from(3), &[5, 8], KEPT, scale());
        let (y, expected) = (of(&x)?, with_reference(|| of(&x))?);
        assert_eq!(y.to_vec2::<f32>()?, expected.to_vec2::<f32>()?);
        Ok(())
    }
}
