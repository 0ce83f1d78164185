//! Samplers of bits, integers and signs.

use candle_core::{DType, Device, Shape, Tensor, WithDType};
use half::{bf16, f16};

use super::Bernoulli;
use super::continuous::wrong_type;
use super::real::Real;
use super::real_array::RealArray;
use super::{Key, Sampler, tensor};
use crate::error::{Error, Result};

impl Key {
    /// Uniform 32-bit words: `jax.random.bits(key, shape, uint32)`.
    ///
    /// # Errors
    /// If the result cannot be allocated.
    pub fn bits(self, shape: impl Into<Shape>) -> Result<Tensor> {
        self.sample(0, shape, word)
    }

    /// Uniform bits that fill an integer type: `jax.random.bits(key, shape, uint8)` for `U8`, and so on.
    /// Candle has no unsigned type of 16 or of 64 bits: `I16`, `I32` and `I64` hold the bits of JAX's
    /// `uint16`, `uint32` and `uint64`, so `as u16` and the like give JAX's numbers.
    ///
    /// # Errors
    /// If `dtype` is not an integer type.
    pub fn bits_of(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        match dtype {
            DType::U8 => self.sample(0, shape, |block| word(block) as u8),
            DType::I16 => self.sample(0, shape, |block| word(block) as i16),
            DType::U32 => self.sample(0, shape, word),
            DType::I32 => self.sample(0, shape, |block| word(block) as i32),
            DType::I64 => self.sample(0, shape, |block| long_word(block) as i64),
            other => Err(wrong_type("bits_of", INTEGERS, other)),
        }
    }

    /// 1 with probability `p`, else 0, as `U8`: `jax.random.bernoulli(key, p, shape)`. As in JAX, `p` is clipped to
    /// [0, 1]; the uniform samples that it is compared with have the type of a tensor `p`, and are `F32` for a number.
    /// In JAX's 64-bit mode a Python number has 64 bits: that is a scalar tensor of `F64` here.
    ///
    /// # Errors
    /// If a `p` is NaN, for which JAX silently returns zeros, or a tensor `p` does not broadcast to `shape`.
    pub fn bernoulli<'a>(self, p: impl Into<RealArray<'a>>, shape: impl Into<Shape>) -> Result<Tensor> {
        match p.into() {
            RealArray::Number(p) => {
                let bernoulli = Bernoulli::new(probability(p)?);
                self.sample(0, shape, move |block| u8::from(bernoulli.sample(block)))
            }
            RealArray::Tensor(tensor) => match tensor.dtype() {
                DType::BF16 => self.below::<bf16>(tensor, &shape.into()),
                DType::F16 => self.below::<f16>(tensor, &shape.into()),
                DType::F32 => self.below::<f32>(tensor, &shape.into()),
                DType::F64 => self.below::<f64>(tensor, &shape.into()),
                other => Err(wrong_type("bernoulli", "float probabilities", other)),
            },
        }
    }

    fn below<T: Real>(self, p: &Tensor, shape: &Shape) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.map(0, &probabilities::<T>(p, shape)?, Below)?, shape, &Device::Cpu)?)
    }

    /// 1 or -1, equally likely: `jax.random.rademacher(key, shape, dtype)`. `I64` and `F64`, which only JAX's 64-bit mode
    /// has, are drawn from 64 bits, as that mode draws every type: to have its samples in another type, cast.
    ///
    /// # Errors
    /// If `dtype` cannot hold -1, where JAX's samples are 1 and the largest number of the type.
    pub fn rademacher(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        fn sign<T: WithDType, U: Real>(block: [u32; 2]) -> T {
            T::from_f64(if U::unit(block) < U::of(0.5) { 1. } else { -1. })
        }
        match dtype {
            DType::I16 => self.sample(0, shape, sign::<i16, f32>),
            DType::I32 => self.sample(0, shape, sign::<i32, f32>),
            DType::I64 => self.sample(0, shape, sign::<i64, f64>),
            DType::BF16 => self.sample(0, shape, sign::<bf16, f32>),
            DType::F16 => self.sample(0, shape, sign::<f16, f32>),
            DType::F32 => self.sample(0, shape, sign::<f32, f32>),
            DType::F64 => self.sample(0, shape, sign::<f64, f64>),
            other => Err(wrong_type("rademacher", "a signed type", other)),
        }
    }

    /// Integers from `minval` to `maxval - 1`: `jax.random.randint(key, shape, minval, maxval, dtype)`.
    ///
    /// As in JAX, bounds are clipped to the type, so that `maxval = 256` allows a `U8` of 255; and with
    /// `minval >= maxval`, an empty range, every sample is `minval`. Samples are very slightly biased unless the
    /// number of values is a power of two.
    ///
    /// # Errors
    /// If `dtype` is not an integer type.
    pub fn randint(self, shape: impl Into<Shape>, minval: i64, maxval: i64, dtype: DType) -> Result<Tensor> {
        let range = |min: i64, max: i64, width| Range::new([minval, maxval], [min, max], width);
        match dtype {
            DType::U8 => self.integers(shape, range(0, u8::MAX.into(), 32), |x| x as u8),
            DType::I16 => self.integers(shape, range(i16::MIN.into(), i16::MAX.into(), 32), |x| x as i16),
            DType::U32 => self.integers(shape, range(0, u32::MAX.into(), 32), |x| x as u32),
            DType::I32 => self.integers(shape, range(i32::MIN.into(), i32::MAX.into(), 32), |x| x as i32),
            DType::I64 => self.integers(shape, range(i64::MIN, i64::MAX, 64), |x| x),
            other => Err(wrong_type("randint", INTEGERS, other)),
        }
    }

    fn integers<T: WithDType>(
        self,
        shape: impl Into<Shape>,
        range: Range,
        cast: impl Fn(i64) -> T,
    ) -> Result<Tensor> {
        let keys = self.split2();
        tensor(shape, |index| cast(range.at(keys.map(|key| key.block(index)))))
    }
}

const INTEGERS: &str = "`u8`, `i16`, `u32`, `i32` or `i64`";

/// 1 where the uniform number in the type of a probability is below it.
#[derive(Clone, Copy)]
struct Below;

impl<T: Real> Sampler<T> for Below {
    type Output = u8;

    #[inline(always)]
    fn sample(&self, block: [u32; 2], p: T) -> u8 {
        u8::from(T::unit(block) < p)
    }
}

/// The probability in the type of the uniform samples that it is compared with.
pub(super) fn probability(p: f64) -> Result<f32> {
    if p.is_nan() { Err(no_probability()) } else { Ok(p as f32) }
}

/// The probabilities of samples of this shape.
pub(super) fn probabilities<T: Real>(p: &Tensor, shape: &Shape) -> Result<Vec<T>> {
    let values = RealArray::from(p).values::<T>("bernoulli", shape)?;
    if values.iter().any(|p| p.to_f64().is_nan()) { Err(no_probability()) } else { Ok(values) }
}

fn no_probability() -> Error {
    Error::argument("the probability of `bernoulli` is NaN")
        .expected("a number from 0 to 1")
        .remedy("find out where the NaN comes from")
}

/// 32 random bits; narrower types take the low ones.
pub(super) fn word([a, b]: [u32; 2]) -> u32 {
    a ^ b
}

fn long_word([high, low]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// `span` integers from `low` on, in arithmetic modulo 2^`width`.
#[derive(Clone, Copy)]
struct Range {
    low: i64,
    /// 0 means all 2^`width`.
    span: u64,
    /// 2^`width` modulo the span: the weight of a high word.
    multiplier: u64,
    /// 2^`width` - 1.
    mask: u64,
}

impl Range {
    /// The values in [minval, maxval), for a type with the range [min, max].
    fn new([minval, maxval]: [i64; 2], [min, max]: [i64; 2], width: u32) -> Self {
        let mask = u64::MAX >> (64 - width);
        let low = minval.clamp(min, max);
        // One past the type's last value is also a bound, except for `i64`, which cannot represent it.
        let high = maxval.clamp(min, max.saturating_add(1));
        let span = if high <= low { 1 } else { high.wrapping_sub(low) as u64 & mask };
        let half = remainder(1 << (width / 2), span);
        let multiplier = remainder(half.wrapping_mul(half) & mask, span);
        Self { low, span, multiplier, mask }
    }

    /// The value for two blocks, one of high words, one of low words.
    fn at(self, blocks: [[u32; 2]; 2]) -> i64 {
        let Self { span, multiplier, mask, .. } = self;
        let [high, low] = blocks.map(|block| match mask {
            u64::MAX => long_word(block),
            _ => word(block).into(),
        });
        let offset = remainder(high, span).wrapping_mul(multiplier).wrapping_add(remainder(low, span));
        self.low.wrapping_add(remainder(offset & mask, span) as i64)
    }
}

/// The remainder; as in XLA, `x` for a division by 0.
fn remainder(x: u64, span: u64) -> u64 {
    x.checked_rem(span).unwrap_or(x)
}
