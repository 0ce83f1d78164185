//! Samples by their flat index: any part of an array alone, on all cores.

use std::mem::MaybeUninit;

use super::threefry::threefry2x32;
use crate::error::{Error, Result};
use crate::fill::Fill;

/// A function of the two random words at an index, and for dropout, noise and the like, also of the element `x` of
/// another array at that index.
pub trait Sampler<X = ()>: Copy + Send + Sync {
    /// The type of a sample.
    type Output: Send;

    /// The sample at one index. It is `#[inline(always)]`, since it is part of a [kernel](crate::isa::Kernel).
    fn sample(&self, block: [u32; 2], x: X) -> Self::Output;
}

/// A closure that is small enough to be inlined.
impl<T: Send, F: Fn([u32; 2]) -> T + Copy + Send + Sync> Sampler for F {
    type Output = T;

    #[inline(always)]
    fn sample(&self, block: [u32; 2], (): ()) -> T {
        self(block)
    }
}

/// The samples from the flat index `start` on, one for each element of `x`.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a, X, S> {
    /// The two words of the key.
    pub key: [u32; 2],
    /// The flat index of the first sample.
    pub start: u64,
    /// The elements that the sampler is called with.
    pub x: &'a [X],
    /// The function of words and elements.
    pub sampler: S,
}

// SAFETY: a piece is written part by part until its end, and the loop over a part writes each of its elements, since
// `x` has the length of the piece.
unsafe impl<X: Copy + Sync, S: Sampler<X>> Fill<S::Output> for Samples<'_, X, S> {
    /// 30 microseconds of hashing.
    const PARALLEL: usize = 1 << 15;

    fn check(&self, len: usize) -> Result<()> {
        if len <= self.x.len() {
            return Ok(());
        }
        let expected = format_args!("at least {len} elements");
        Err(Error::shape("samples need an element for each of them", expected, self.x.len()))
    }

    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<S::Output>]) {
        // Copies, which the output cannot alias.
        let (key, sampler) = (self.key, self.sampler);
        let mut x = &self.x[first..first + piece.len()];
        let mut index = self.start.wrapping_add(first as u64);
        let mut rest = piece;
        while !rest.is_empty() {
            // Up to where the high word of the index changes.
            let (high, mut low) = ((index >> 32) as u32, index as u32);
            let len = rest.len().min(usize::try_from((1 << 32) - u64::from(low)).unwrap_or(usize::MAX));
            let (part, later) = rest.split_at_mut(len);
            // Counted in 32 bits, since a 64-bit number would halve the lanes of the whole loop.
            for (slot, &x) in part.iter_mut().zip(x) {
                slot.write(sampler.sample(threefry2x32(key, [high, low]), x));
                low = low.wrapping_add(1);
            }
            index = index.wrapping_add(len as u64);
            (x, rest) = (&x[len..], later);
        }
    }
}
