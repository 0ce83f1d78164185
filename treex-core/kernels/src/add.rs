//! Sums of two arrays.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::fill::{Fill, collect};
use crate::float::Float;

entry_points! {
    /// Sums of two arrays of floats.
    pub trait Add: Float for [f32, f64, bf16, f16] {
        /// `x + y`, where `y` is repeated to the length of `x`, which need not be a multiple of its own.
        ///
        /// # Errors
        /// If `y` alone is empty, or memory cannot be allocated.
        fn broadcast_add(x: &[Self], y: &[Self]) -> Result<Vec<Self>> = broadcast_add;
    }
}

fn broadcast_add<T: Float>(x: &[T], y: &[T]) -> Result<Vec<T>> {
    if y.is_empty() && !x.is_empty() {
        let expected = format!("at least one element, for a sum with {}", x.len());
        return Err(Error::shape(
            "an empty operand cannot be broadcast",
            expected,
            "an empty second operand",
        ));
    }
    collect(x.len(), &Sum { x, y })
}

struct Sum<'a, T> {
    x: &'a [T],
    y: &'a [T],
}

// SAFETY: `x` has an element for each one of the piece, and runs of `y` cover the piece from its beginning to its
// end.
unsafe impl<T: Float> Fill<T> for Sum<'_, T> {
    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let mut at = first % self.y.len();
        let (mut x, mut piece) = (&self.x[first..first + piece.len()], piece);
        while !piece.is_empty() {
            let len = piece.len().min(self.y.len() - at);
            let (run, rest) = piece.split_at_mut(len);
            for ((sum, x), y) in run.iter_mut().zip(x).zip(&self.y[at..at + len]) {
                sum.write(T::narrow(x.widen() + y.widen()));
            }
            (x, piece, at) = (&x[len..], rest, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_operand_is_repeated() -> Result<()> {
        assert_eq!(f32::broadcast_add(&[1., 2., 3., 4., 5.], &[10., 20.])?, [11., 22., 13., 24., 15.]);
        assert!(f32::broadcast_add(&[], &[])?.is_empty());
        let message = f32::broadcast_add(&[1., 2.], &[]).expect_err("an empty operand").to_string();
        assert!(message.contains("at least one element") && message.contains("empty"), "{message}");
        Ok(())
    }
}
