//! Random keys and samplers, with the bits of JAX.
//!
//! A [`Key`] is JAX's threefry2x32 key. Every sample is a hash of the key and the sample's flat index
//! (partitionable mode, JAX's default), so nothing depends on order or threads.
//!
//! **Law:** bits, integers, and floats made from bits are those of JAX on a CPU; floats computed by
//! `log` or `erf_inv` agree to 2 units in the last place (0 with JAX on a machine with fused
//! multiply-add and without half-precision arithmetic), `f64` and [`cauchy`](Key::cauchy) to 25, and
//! [`orthogonal`](Key::orthogonal) to 1e-6.
//!
//! `f64` and `i64` are those of JAX's 64-bit mode, and other types those of its default mode. Where the mode changes the
//! samples of another type, the docs of the sampler tell how to draw them: [`bernoulli`](Key::bernoulli),
//! [`rademacher`](Key::rademacher), [`binomial`](Key::binomial), [`geometric`](Key::geometric),
//! [`choice`](Key::choice). Distributions with parameters, such as [`gamma`](Key::gamma), agree with JAX up to the
//! rounding of their formulas; one that rejects can, in a tie to the last digit, reject another sample.
//!
//! Samples are computed on the host, on all cores, and any part of a
//! tensor can be computed alone: [`Key::map`].

mod categorical;
mod choice;
mod continuous;
mod counts;
mod discrete;
mod distribution;
mod gamma;
pub(crate) mod log;
mod math64;
mod mode;
mod multivariate_normal;
mod orthogonal;
mod permutation;
mod real;
mod real_array;
#[cfg(test)]
mod sample;
mod seed;
mod slice;
pub mod stream;
mod transformed;

use candle_core::{Device, Shape, Tensor, WithDType};

use crate::error::{Error, Result};
pub use mode::SampleMode;
pub use real_array::RealArray;
use treex_kernels::fill;
use treex_kernels::random::sampler::Samples;
use treex_kernels::random::threefry;

pub use slice::KeySlice;
pub use treex_kernels::random::bernoulli::Bernoulli;
pub use treex_kernels::random::sampler::Sampler;

/// What to write where a sampler may not transfer.
const DRAWN: &str = "draw outside of the step, or without its tensors: samples are computed on the CPU";

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
    pub const fn from_words(words: [u32; 2]) -> Self {
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
        (0..n as u64).map(|index| self.block_at(index)).collect()
    }

    /// Two keys: `key, next = jax.random.split(key)`.
    #[must_use]
    pub fn split2(self) -> [Self; 2] {
        [self.block_at(0), self.block_at(1)]
    }

    /// A key derived from this one and a number: `jax.random.fold_in(key, data)`.
    #[must_use]
    pub fn fold_in(self, data: u32) -> Self {
        self.block_at(u64::from(data))
    }

    /// The key that is the block of this one at an index.
    pub(crate) fn block_at(self, index: u64) -> Self {
        let child = Self(self.block(index));
        log::write(|| log::Derived::Block { parent: self.0, index, child: child.0 });
        child
    }

    fn block(self, index: u64) -> [u32; 2] {
        threefry::block(self.0, index)
    }

    /// One sample for each flat index from `start` on, computed from the two words at that index.
    fn sample<T: WithDType>(
        self,
        start: u64,
        shape: impl Into<Shape>,
        sampler: impl Sampler<Output = T>,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let samples = self.map(start, &vec![(); count(&shape)?], sampler)?;
        Ok(Tensor::from_vec(samples, shape, &Device::Cpu)?)
    }

    /// Applies `sampler` to each element of `x` and the random words at its flat index, which is `start` for the first.
    /// In one pass, on all cores; the words of an index do not depend on which part of a tensor is computed.
    ///
    /// ```
    /// use treex_core::random::Key;
    ///
    /// let word = |[a, b]: [u32; 2]| a ^ b;
    /// let bits = Key::from(42).map(1, &[(); 2], word)?;
    /// assert_eq!(bits, Key::from(42).bits(3)?.to_vec1::<u32>()?[1..]);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the result cannot be allocated.
    pub fn map<X: Copy + Sync, S: Sampler<X>>(
        self,
        start: u64,
        x: &[X],
        sampler: S,
    ) -> Result<Vec<S::Output>> {
        Ok(fill::collect(x.len(), &Samples { key: self.0, start, x, sampler })?)
    }

    /// [`map`](Self::map) without `x`, into an existing buffer.
    ///
    /// # Errors
    /// Those of [`overwrite`](fill::overwrite), of which this has none.
    pub fn fill<T: Copy + Send>(
        self,
        start: u64,
        buffer: &mut [T],
        sampler: impl Sampler<Output = T>,
    ) -> Result<()> {
        let x = vec![(); buffer.len()];
        Ok(fill::overwrite(buffer, &Samples { key: self.0, start, x: &x, sampler })?)
    }

    /// The two words as a `U32` tensor, the form of a key in a tree.
    ///
    /// # Errors
    /// If the tensor cannot be allocated.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Ok(Tensor::new(&self.0, &Device::Cpu)?)
    }

    /// The key of a tensor from [`to_tensor`](Self::to_tensor).
    ///
    /// # Errors
    /// If the tensor is not two words.
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        match tensor.to_vec1::<u32>().as_deref() {
            Ok(&[a, b]) => Ok(Self([a, b])),
            _ => Err(Error::shape("a tensor is not a random key")
                .expected("shape [2] of `u32`")
                .found(format!("shape {:?} of `{}`", tensor.dims(), tensor.dtype().as_str()))
                .remedy("make it with `Key::to_tensor`")),
        }
    }
}

/// A tensor of `f(flat index)`.
fn tensor<T: WithDType>(shape: impl Into<Shape>, f: impl FnMut(u64) -> T) -> Result<Tensor> {
    let shape = shape.into();
    let samples = filled(count(&shape)?, f)?;
    Ok(Tensor::from_vec(samples, shape, &Device::Cpu)?)
}

/// The number of elements, of a shape whose strides are numbers too: those beside a 0.
fn count(shape: &Shape) -> Result<usize> {
    let product = |n: usize, &dim: &usize| n.checked_mul(dim.max(1));
    match shape.dims().iter().try_fold(1, product) {
        Some(_) if shape.dims().contains(&0) => Ok(0),
        Some(n) => Ok(n),
        None => Err(too_many(format!("shape {:?}", shape.dims()))),
    }
}

/// `f(0)` to `f(n - 1)`.
fn filled<T>(n: usize, f: impl FnMut(u64) -> T) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(n).map_err(|_| too_many(n))?;
    values.extend((0..n as u64).map(f));
    Ok(values)
}

fn too_many(found: impl std::fmt::Display) -> Error {
    Error::argument("the samples cannot be allocated")
        .found(found)
        .remedy("draw fewer, or a part at a time with `Key::slice`")
}

#[cfg(test)]
mod statistics;
#[cfg(test)]
mod tests;
