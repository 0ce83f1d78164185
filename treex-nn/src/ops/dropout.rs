//! Dropout in one pass over memory: each element meets its random words where it is read, and the mask is
//! never stored. Backward draws it again.

use std::marker::PhantomData;

use candle_core::{DType, Tensor};
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::random::{Bernoulli, Sampler};
use treex_core::{Key, Result};
use treex_kernels::float::{bf16, f16};

/// `x * scale` with probability `kept`, and else 0, also where `x` is not finite; by the mask
/// `jax.random.bernoulli(key, kept, mask)`, whose shape broadcasts to that of `x`.
pub(crate) fn dropout(x: &Tensor, key: Key, mask: &[usize], kept: f64, scale: f32) -> Result<Tensor> {
    let how = Dropout { key, kept: Bernoulli::new(kept as f32), scale };
    match x.dtype() {
        _ if is_reference() || !x.device().is_cpu() || mask != x.dims() => plain(x, key, mask, kept, scale),
        DType::BF16 => forward::<bf16>(x, how),
        DType::F16 => forward::<f16>(x, how),
        DType::F32 => forward::<f32>(x, how),
        DType::F64 => forward::<f64>(x, how),
        _ => plain(x, key, mask, kept, scale),
    }
}

fn plain(x: &Tensor, key: Key, mask: &[usize], kept: f64, scale: f32) -> Result<Tensor> {
    let mask = key.bernoulli(kept, mask)?.to_device(x.device())?.broadcast_as(x.shape())?;
    let scaled = (x * f64::from(scale))?;
    Ok(mask.where_cond(&scaled, &scaled.zeros_like()?)?)
}

fn forward<T: Element>(x: &Tensor, how: Dropout) -> Result<Tensor> {
    attach(Backward::<T> { how, element: PhantomData }, &[x], how.apply::<T>(x)?)
}

#[derive(Clone, Copy)]
struct Dropout {
    key: Key,
    kept: Bernoulli,
    scale: f32,
}

impl Dropout {
    fn apply<T: Element>(self, x: &Tensor) -> Result<OwnedStorage> {
        let x = x.detach().contiguous()?;
        let scale = T::from_f64(self.scale.into()).widen();
        let y = self.key.map(0, &elements::<T>(&x)?, KeepAndScale { kept: self.kept, scale })?;
        OwnedStorage::new(y, x.shape())
    }
}

struct Backward<T> {
    how: Dropout,
    element: PhantomData<fn() -> T>,
}

impl<T: Element> Operation for Backward<T> {
    fn name(&self) -> &'static str {
        "dropout"
    }

    /// A diagonal matrix is its own transpose.
    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(self.how.apply::<T>(cx.cotangent()?)?.into_tensor())])
    }
}

/// What becomes of one element.
#[derive(Clone, Copy)]
struct KeepAndScale<W> {
    kept: Bernoulli,
    scale: W,
}

impl<T: Element> Sampler<T> for KeepAndScale<T::Wide> {
    type Output = T;

    #[inline(always)]
    fn sample(&self, block: [u32; 2], x: T) -> T {
        let scaled = T::narrow(x.widen() * self.scale);
        if self.kept.sample(block) { scaled } else { T::zero() }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use treex_core::autograd::with_reference;

    use super::*;

    const KEPT: f64 = 0.9;

    fn scale() -> f32 {
        1. / KEPT as f32
    }

    /// `y` and the gradient of the sum of its products with fixed numbers, as bits. Candle's plain product
    /// adds 0, which only tells in the sign of a zero.
    fn value_and_gradient(x: &Tensor, shape: &[usize]) -> Result<[Vec<u64>; 2]> {
        let x = Var::from_tensor(x)?;
        // As a view that it may be, and not as the copy that a variable is.
        let y = dropout(&x.as_tensor().t()?, Key::from(3), shape, KEPT, scale())?;
        let weights = Key::from(1).normal(y.shape(), DType::F32)?.to_dtype(y.dtype())?;
        let grads = (&y * weights)?.sum_all()?.backward()?;
        let bits = |x: &Tensor| -> Result<_> {
            let values = x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            Ok(values.into_iter().map(|x| (x + 0.).to_bits()).collect())
        };
        let grad = grads.get(&x).map_or_else(|| x.zeros_like(), |grad| Ok(grad.clone()))?;
        Ok([bits(&y)?, bits(&grad)?])
    }

    #[test]
    fn kernel_equals_plain_composition() -> Result<()> {
        for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
            for dims in [(0, 3), (1, 1), (5, 7), (40, 33), (301, 250)] {
                let x = (Key::from(0).normal(dims, DType::F32)? * 3.)?.to_dtype(dtype)?;
                let shape = [dims.1, dims.0];
                for mask in [shape, [1, dims.0], [dims.1, 1]] {
                    let got = value_and_gradient(&x, &mask)?;
                    let plain = with_reference(|| value_and_gradient(&x, &mask))?;
                    assert!(got == plain, "{dtype:?} {dims:?} {mask:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_dropped_is_zero_whatever_it_was() -> Result<()> {
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

    /// A view that begins inside of its memory is not its memory.
    #[test]
    fn views() -> Result<()> {
        let x = Key::from(0).normal((9, 8), DType::F32)?;
        let of = |x: &Tensor| dropout(&x.narrow(0, 2, 5)?, Key::from(3), &[5, 8], KEPT, scale());
        let (y, plain) = (of(&x)?, with_reference(|| of(&x))?);
        assert_eq!(y.to_vec2::<f32>()?, plain.to_vec2::<f32>()?);
        Ok(())
    }
}
