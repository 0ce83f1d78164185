//! Random keys and samplers: JAX's, bit for bit.
//!
//! A [`Key`] is JAX's threefry2x32 key. Every sample is a hash of the key and the sample's flat index
//! (partitionable mode, JAX's default), so nothing depends on order or threads.
//!
//! **Law:** bits, and floats that come from bit tricks, are those of JAX; floats that pass through `log` or
//! `erf_inv` agree to 2 units in the last place (0 on machines with fused multiply-add).

mod math;
mod threefry;

use candle_core::{DType, Device, Shape, Tensor};

use crate::error::{Error, ErrorKind, Result};
use threefry::threefry2x32;

/// A random key: two words, on the host, copied freely. Use each key once; [`split`](Self::split) it for
/// more.
///
/// ```
/// use treex_core::random::Key;
///
/// let key = Key::from(42); // jax.random.PRNGKey(42)
/// assert_eq!(key.split(2)[0].words(), [1832780943, 270669613]);
/// assert_eq!(key.bits(3)?.to_vec1::<u32>()?, [2098992034, 2919706841, 2646866425]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u32; 2]);

impl Key {
    /// The key with these two words.
    #[must_use]
    pub fn from_words(words: [u32; 2]) -> Self {
        Self(words)
    }

    /// The two words.
    #[must_use]
    pub fn words(self) -> [u32; 2] {
        self.0
    }

    /// `n` keys, independent of each other: `jax.random.split(key, n)`.
    #[must_use]
    pub fn split(self, n: usize) -> Vec<Self> {
        (0..n as u64).map(|index| Self(self.block(index))).collect()
    }

    /// Two keys: `key, next = jax.random.split(key)`.
    #[must_use]
    pub fn split2(self) -> [Self; 2] {
        [Self(self.block(0)), Self(self.block(1))]
    }

    /// The key for a number: `jax.random.fold_in(key, data)`.
    #[must_use]
    pub fn fold_in(self, data: u32) -> Self {
        Self(self.block(u64::from(data)))
    }

    fn block(self, index: u64) -> [u32; 2] {
        threefry2x32(self.0, [(index >> 32) as u32, index as u32])
    }

    fn bits32(self, index: u64) -> u32 {
        let [a, b] = self.block(index);
        a ^ b
    }

    /// Uniform 32-bit words: `jax.random.bits(key, shape, uint32)`.
    ///
    /// # Errors
    /// If the tensor cannot be made.
    pub fn bits(self, shape: impl Into<Shape>) -> Result<Tensor> {
        self.sample(shape, |bits| bits)
    }

    /// Uniform on [0, 1): `jax.random.uniform(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not `F32`.
    pub fn uniform(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.uniform_between(shape, dtype, 0., 1.)
    }

    /// Uniform on [minval, maxval): `jax.random.uniform(key, shape, dtype, minval, maxval)`. `maxval` itself
    /// can come out by rounding; with `minval > maxval` every sample is `minval`.
    ///
    /// # Errors
    /// If `dtype` is not `F32`.
    pub fn uniform_between(
        self,
        shape: impl Into<Shape>,
        dtype: DType,
        minval: f64,
        maxval: f64,
    ) -> Result<Tensor> {
        only_f32(dtype, "uniform")?;
        let (minval, maxval) = (minval as f32, maxval as f32);
        self.sample(shape, |bits| math::uniform(bits, minval, maxval))
    }

    /// Standard normal: `jax.random.normal(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not `F32`.
    pub fn normal(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        only_f32(dtype, "normal")?;
        self.sample(shape, math::normal)
    }

    /// Standard normal, cut to (lower, upper): `jax.random.truncated_normal(key, lower, upper, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is not `F32`.
    pub fn truncated_normal(
        self,
        lower: f64,
        upper: f64,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        only_f32(dtype, "truncated_normal")?;
        let cut = math::Truncation::new(lower as f32, upper as f32);
        self.sample(shape, |bits| cut.normal(bits))
    }

    /// 1 with probability `p`, else 0, as `U8`: `jax.random.bernoulli(key, p, shape)`.
    ///
    /// # Errors
    /// If `p` is not a number.
    pub fn bernoulli(self, p: f64, shape: impl Into<Shape>) -> Result<Tensor> {
        if p.is_nan() {
            return Err(
                Error::argument("the probability of `bernoulli` is NaN").expected("a number from 0 to 1")
            );
        }
        let p = p as f32;
        self.sample(shape, |bits| u8::from(math::uniform(bits, 0., 1.) < p))
    }

    /// One sample for each flat index, from its 32 random bits.
    fn sample<T: candle_core::WithDType>(
        self,
        shape: impl Into<Shape>,
        f: impl Fn(u32) -> T,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let samples: Vec<T> = (0..shape.elem_count() as u64).map(|index| f(self.bits32(index))).collect();
        Ok(Tensor::from_vec(samples, shape, &Device::Cpu)?)
    }

    /// The two words as a `U32` tensor, which is how a tree holds a key.
    ///
    /// # Errors
    /// If the tensor cannot be made.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Ok(Tensor::new(&self.0, &Device::Cpu)?)
    }

    /// The key that a tree holds.
    ///
    /// # Errors
    /// If the tensor is not two words.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        match tensor.to_vec1::<u32>().as_deref() {
            Ok(&[a, b]) => Ok(Self([a, b])),
            _ => Err(Error::shape("a random key has the wrong form")
                .expected("shape [2] of `u32`")
                .found(format!("shape {:?} of `{}`", tensor.dims(), tensor.dtype().as_str()))),
        }
    }
}

fn only_f32(dtype: DType, sampler: &str) -> Result<()> {
    if dtype == DType::F32 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::DType, format!("`{sampler}` cannot draw this type"))
        .expected("`f32`")
        .found(format!("`{}`", dtype.as_str()))
        .remedy("draw `DType::F32` and cast with `to_dtype`"))
}

/// JAX's rule without 64-bit mode: the low 32 bits of the seed.
macro_rules! from_seed {
    ($($int:ty),*) => {$(
        /// `jax.random.PRNGKey(seed)`: the low 32 bits count, as in JAX without 64-bit mode.
        impl From<$int> for Key {
            fn from(seed: $int) -> Self {
                Self([0, seed as u32])
            }
        }
    )*};
}

from_seed!(i32, u32, i64, u64);

/// Flax's derivation for the counter of a module at the top: the first four bytes of the SHA-1 of the
/// counter's big-endian bytes without leading zeros, folded in.
pub(crate) fn fold_in_counter(key: Key, counter: u32) -> Key {
    use sha1::Digest as _;
    let bytes = counter.to_be_bytes();
    let digest = sha1::Sha1::digest(&bytes[counter.leading_zeros() as usize / 8..]);
    key.fold_in(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

#[cfg(test)]
mod tests;
