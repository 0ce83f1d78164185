//! Dropout in one pass over memory: each element meets its random words where it is read, and the mask is
//! never stored. Backward draws it again.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, bail};
use treex_core::compute::{float::Float, is_plain};
use treex_core::random::{Bernoulli, Sampler};
use treex_core::{Key, Result};

/// `x * scale` with probability `kept`, and else 0, also where `x` is not finite; by the mask
/// `jax.random.bernoulli(key, kept, mask)`, whose shape broadcasts to that of `x`.
pub(crate) fn dropout(x: &Tensor, key: Key, mask: &[usize], kept: f64, scale: f32) -> Result<Tensor> {
    let has_kernel =
        x.device().is_cpu() && matches!(x.dtype(), DType::BF16 | DType::F16 | DType::F32 | DType::F64);
    if is_plain() || !has_kernel || mask != x.dims() {
        return plain(x, key, mask, kept, scale);
    }
    Ok(x.contiguous()?.apply_op1(Dropout { key, kept: Bernoulli::new(kept as f32), scale })?)
}

fn plain(x: &Tensor, key: Key, mask: &[usize], kept: f64, scale: f32) -> Result<Tensor> {
    let mask = key.bernoulli(kept, mask)?.to_device(x.device())?.broadcast_as(x.shape())?;
    let scaled = (x * f64::from(scale))?;
    Ok(mask.where_cond(&scaled, &scaled.zeros_like()?)?)
}

#[derive(Clone, Copy)]
struct Dropout {
    key: Key,
    kept: Bernoulli,
    scale: f32,
}

impl Dropout {
    fn apply<T: Float>(self, x: &[T], layout: &Layout) -> candle_core::Result<Vec<T>> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("dropout needs contiguous memory")
        };
        let scale = T::from_f64(self.scale.into()).widen();
        Ok(self.key.map(0, &x[start..end], KeepAndScale { kept: self.kept, scale })?)
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let storage = match storage {
            CpuStorage::BF16(x) => CpuStorage::BF16(self.apply(x, layout)?),
            CpuStorage::F16(x) => CpuStorage::F16(self.apply(x, layout)?),
            CpuStorage::F32(x) => CpuStorage::F32(self.apply(x, layout)?),
            CpuStorage::F64(x) => CpuStorage::F64(self.apply(x, layout)?),
            _ => bail!("dropout needs floats"),
        };
        Ok((storage, layout.shape().clone()))
    }

    /// A diagonal matrix is its own transpose.
    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(grad.contiguous()?.apply_op1(*self)?))
    }
}

/// What becomes of one element.
#[derive(Clone, Copy)]
struct KeepAndScale<W> {
    kept: Bernoulli,
    scale: W,
}

impl<T: Float> Sampler<T> for KeepAndScale<T::Wide> {
    type Output = T;

    #[inline(always)]
    fn sample(&self, block: [u32; 2], x: T) -> T {
        let scaled = T::narrow(x.widen() * self.scale);
        if self.kept.sample(block) { scaled } else { T::zero() }
    }
}
