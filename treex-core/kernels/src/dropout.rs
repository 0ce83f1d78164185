//! Dropout in one pass over memory: the random words of an element are computed where it is read, and no mask is
//! stored.

use half::{bf16, f16};

use crate::error::Result;
use crate::fill::collect;
use crate::float::Float;
use crate::random::bernoulli::Bernoulli;
use crate::random::sampler::{Sampler, Samples};

/// The kernel for devices, of [all elements](crate::dialect::EACH), behind [threefry](crate::dialect::THREEFRY).
pub const DIALECT: &str = include_str!("dropout.h");

entry_points! {
    /// Dropout by a mask of an element each.
    pub trait Dropout: Float for [f32, f64, bf16, f16] {
        /// `x * scale` where the sample of `kept` at the element's index is true, otherwise 0, also where `x` is not
        /// finite.
        ///
        /// # Errors
        /// If memory cannot be allocated.
        fn dropout(x: &[Self], key: [u32; 2], kept: Bernoulli, scale: Self) -> Result<Vec<Self>> = dropout;
    }
}

fn dropout<T: Float>(x: &[T], key: [u32; 2], kept: Bernoulli, scale: T) -> Result<Vec<T>> {
    collect(x.len(), &Samples { key, start: 0, x, sampler: KeepAndScale { kept, scale: scale.widen() } })
}

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
        if self.kept.sample(block) { scaled } else { T::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::threefry::block;

    /// One element after another, in lengths around those of pieces and of work for one thread.
    #[test]
    fn dropped_by_the_words_at_an_index() -> Result<()> {
        let (key, kept) = ([17, 42], Bernoulli::new(0.7));
        for len in [0, 1, 17, 8193, 40_000] {
            let mut x: Vec<f32> = (0..len).map(|i| (i % 23) as f32 + 1.).collect();
            x.iter_mut().skip(5).step_by(11).for_each(|x| *x = f32::INFINITY);
            let y = f32::dropout(&x, key, kept, 1.5)?;
            for (index, (&x, &y)) in x.iter().zip(&y).enumerate() {
                let expected = if kept.sample(block(key, index as u64)) { x * 1.5 } else { 0. };
                assert_eq!(y, expected, "{index}");
            }
            assert_eq!(y.len(), len);
        }
        Ok(())
    }
}
