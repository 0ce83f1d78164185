//! The resolution of the uniform samples behind other distributions.

use candle_core::{DType, Device, Shape, Tensor};
use half::{bf16, f16};

use super::continuous::wrong_type;
use super::discrete::{probabilities, probability};
use super::real::Real;
use super::real_array::RealArray;
use super::{Key, count, filled};
use crate::error::Result;

/// JAX's `mode` of [`bernoulli_with`](Key::bernoulli_with), [`gumbel_with`](Key::gumbel_with) and
/// [`categorical_with`](Key::categorical_with).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SampleMode {
    /// One uniform number per sample. In `F32` it is a multiple of 2^-23, so that an event of probability 1e-8 occurs
    /// too often or never.
    #[default]
    Low,
    /// Two uniform numbers per sample, of which the second refines the first: accurate down to about 1e-14, at
    /// twice the cost.
    High,
}

impl Key {
    /// [`bernoulli`](Self::bernoulli) in this mode: `jax.random.bernoulli(key, p, shape, mode)`.
    ///
    /// ```
    /// use treex_core::random::{Key, SampleMode};
    ///
    /// // 0.004 ones are expected, but one in 2^23 low-resolution numbers is 0.
    /// let ones = |mode| -> treex_core::Result<u32> {
    ///     let samples = Key::from(7).bernoulli_with(1e-9, 1 << 22, mode)?.to_vec1::<u8>()?;
    ///     Ok(samples.into_iter().map(u32::from).sum())
    /// };
    /// assert_eq!((ones(SampleMode::Low)?, ones(SampleMode::High)?), (3, 0));
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`bernoulli`](Self::bernoulli).
    pub fn bernoulli_with<'a>(
        self,
        p: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        mode: SampleMode,
    ) -> Result<Tensor> {
        let (p, shape) = (p.into(), shape.into());
        match p {
            _ if mode == SampleMode::Low => self.bernoulli(p, shape),
            RealArray::Number(number) => {
                let p = probability(number)?;
                let p = filled(count(&shape)?, |_| p)?;
                self.fine_below(&p, &shape)
            }
            RealArray::Tensor(tensor) => match tensor.dtype() {
                DType::BF16 => self.fine_below::<bf16>(&probabilities(tensor, &shape)?, &shape),
                DType::F16 => self.fine_below::<f16>(&probabilities(tensor, &shape)?, &shape),
                DType::F32 => self.fine_below::<f32>(&probabilities(tensor, &shape)?, &shape),
                DType::F64 => self.fine_below::<f64>(&probabilities(tensor, &shape)?, &shape),
                other => Err(wrong_type("bernoulli", "float probabilities", other)),
            },
        }
    }

    fn fine_below<T: Real>(self, p: &[T], shape: &Shape) -> Result<Tensor> {
        let samples = self
            .pairs::<T>(shape)?
            .zip(p)
            .map(|((coarse, fine), &p)| u8::from(fine * T::EPSILON < p - coarse));
        Ok(Tensor::from_iter(samples, &Device::Cpu)?.reshape(shape)?)
    }

    /// [`gumbel`](Self::gumbel) in this mode: `jax.random.gumbel(key, shape, dtype, mode)`. In `F32`, the
    /// largest possible sample is about 16 in the low mode and about 32 in the high mode.
    ///
    /// # Errors
    /// If `dtype` is not a floating-point type.
    pub fn gumbel_with(self, shape: impl Into<Shape>, dtype: DType, mode: SampleMode) -> Result<Tensor> {
        let shape = shape.into();
        match dtype {
            _ if mode == SampleMode::Low => self.gumbel(shape, dtype),
            DType::BF16 => self.fine_gumbel::<bf16>(&shape),
            DType::F16 => self.fine_gumbel::<f16>(&shape),
            DType::F32 => self.fine_gumbel::<f32>(&shape),
            DType::F64 => self.fine_gumbel::<f64>(&shape),
            other => Err(wrong_type("gumbel", "`bf16`, `f16`, `f32` or `f64`", other)),
        }
    }

    fn fine_gumbel<T: Real>(self, shape: &Shape) -> Result<Tensor> {
        let half = T::of(0.5);
        let samples = self.pairs::<T>(shape)?.map(|(coarse, fine)| {
            let u = if coarse >= half { coarse } else { coarse + T::EPSILON * fine + T::TINY };
            -(-(-u).log1p()).log()
        });
        Ok(Tensor::from_iter(samples, &Device::Cpu)?.reshape(shape)?)
    }

    /// Two uniform numbers for each element of a shape: the two halves of one draw.
    fn pairs<T: Real>(self, shape: &Shape) -> Result<impl Iterator<Item = (T, T)>> {
        let mut coarse =
            self.uniform([&[2], shape.dims()].concat(), T::DTYPE)?.flatten_all()?.to_vec1::<T>()?;
        let fine = coarse.split_off(coarse.len() / 2);
        Ok(coarse.into_iter().zip(fine))
    }
}
