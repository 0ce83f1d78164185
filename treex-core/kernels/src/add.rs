//! Sums of two arrays.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::fill::{Fill, collect};
use crate::float::Float;
use crate::sum_axis0::SumAxis0;

/// The kernel for devices, of [all elements](crate::dialect::EACH).
pub const DIALECT: &str = include_str!("add.h");

entry_points! {
    /// Sums of two arrays of floats.
    pub trait Add: Float for [f32, f64, bf16, f16] {
        /// `x + y`, where `y` is repeated to the length of `x`, which need not be a multiple of its own.
        ///
        /// # Errors
        /// If `y` alone is empty, or memory cannot be allocated.
        fn broadcast_add(x: &[Self], y: &[Self]) -> Result<Vec<Self>> = broadcast_add;

        /// The gradient of the second operand of [`broadcast_add`](Self::broadcast_add), of `len` elements, from that
        /// of the sum: the sum of its runs of `len`. Half types are summed in `f32`.
        ///
        /// # Errors
        /// If `dy` is not a multiple of `len` long, or memory cannot be allocated.
        fn broadcast_add_backward(dy: &[Self], len: usize) -> Result<Vec<Self>> = broadcast_add_backward;
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

fn broadcast_add_backward<T: Float<Wide: SumAxis0>>(dy: &[T], len: usize) -> Result<Vec<T>> {
    if !dy.len().is_multiple_of(len) {
        let expected = format!("a multiple of {len} elements");
        return Err(Error::shape("the gradient of a sum has the wrong size", expected, dy.len()));
    }
    let wide: Vec<_> = dy.iter().map(|x| x.widen()).collect();
    Ok(SumAxis0::sum_axis0(&wide, len)?.into_iter().map(T::narrow).collect())
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

    #[test]
    fn the_gradient_of_the_shorter_operand_is_summed() -> Result<()> {
        assert_eq!(f32::broadcast_add_backward(&[1., 2., 3., 4., 5., 6.], 2)?, [9., 12.]);
        assert_eq!(f32::broadcast_add_backward(&[], 2)?, [0., 0.]);
        // Each of the small ones would be rounded away in `bf16`.
        let mut dy = vec![bf16::from_f32(2f32.powi(-9)); 513];
        dy[0] = bf16::ONE;
        assert_eq!(bf16::broadcast_add_backward(&dy, 1)?, [bf16::from_f32(2.)]);
        assert!(f32::broadcast_add_backward(&[1., 2., 3.], 2).is_err());
        assert!(f32::broadcast_add_backward(&[1.], 0).is_err());
        Ok(())
    }
}
