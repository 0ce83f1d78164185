//! Dot products of arrays.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::fill::{Fill, collect};
use crate::float::Float;
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::reduce::{sums2, total2};

entry_points! {
    /// The dot product, and its gradient.
    pub trait Dot: Float for [f32, f64, bf16, f16] {
        /// `Σ x y`, in one read of each. Half types are summed in `f32`, the sums of pieces in `f64`.
        ///
        /// # Errors
        /// If the lengths differ.
        fn dot(x: &[Self], y: &[Self]) -> Result<Self> = dot;

        /// `dy * other`, the gradient of one operand from that of the product `dy` and the `other` operand.
        ///
        /// # Errors
        /// If memory cannot be allocated.
        fn dot_backward(dy: Self, other: &[Self]) -> Result<Vec<Self>> = dot_backward;
    }
}

fn dot<T: Float>(x: &[T], y: &[T]) -> Result<T> {
    if x.len() != y.len() {
        let [expected, found] = [x, y].map(|operand| format!("{} elements", operand.len()));
        return Err(Error::shape("the operands of a dot product have different sizes", expected, found));
    }
    let sum = total2(x, y, |x, y| dispatch(Products { x, y }).to_f64());
    Ok(T::narrow(T::Wide::of(sum)))
}

struct Products<'a, T> {
    x: &'a [T],
    y: &'a [T],
}

impl<T: Float> Kernel for Products<'_, T> {
    type Output = T::Wide;

    #[inline(always)]
    fn run(self) -> T::Wide {
        let [sum] = sums2(self.x, self.y, |x, y| [x.widen() * y.widen()]);
        sum
    }
}

fn dot_backward<T: Float>(dy: T, other: &[T]) -> Result<Vec<T>> {
    collect(other.len(), &Scaled { x: other, factor: dy.widen() })
}

struct Scaled<'a, T: Float> {
    x: &'a [T],
    factor: T::Wide,
}

// SAFETY: `x` has an element for each one of the piece.
unsafe impl<T: Float> Fill<T> for Scaled<'_, T> {
    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let x = &self.x[first..first + piece.len()];
        for (scaled, x) in piece.iter_mut().zip(x) {
            scaled.write(T::narrow(x.widen() * self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Integers, whose sums are exact; lengths around those of lanes and pieces.
    #[test]
    fn products_are_added() -> Result<()> {
        for len in [0, 1, 63, 65, 8193, 1 << 17] {
            let x: Vec<f64> = (0..len).map(|i| ((i * 37 + 11) % 23) as f64 - 11.).collect();
            let y: Vec<f64> = (0..len).map(|i| ((i * 31 + 5) % 19) as f64 - 9.).collect();
            assert_eq!(f64::dot(&x, &y)?, x.iter().zip(&y).map(|(x, y)| x * y).sum::<f64>());
            assert_eq!(f64::dot_backward(3., &y)?, y.iter().map(|y| 3. * y).collect::<Vec<_>>());
        }
        Ok(())
    }

    /// In each lane 256, and then halves, which `bf16` would round away.
    #[test]
    fn half_types_are_summed_in_f32() -> Result<()> {
        let numbers = |later: f32| -> Vec<bf16> {
            (0..8192).map(|i| bf16::from_f32(if i < 64 { 16. } else { later })).collect()
        };
        let exact = 64. * 256. + 8128. * 0.5;
        assert_eq!(bf16::dot(&numbers(1.), &numbers(0.5))?, bf16::from_f32(exact));
        Ok(())
    }

    #[test]
    fn operands_of_different_sizes() {
        let message = f32::dot(&[1., 2.], &[1.]).expect_err("different sizes").to_string();
        assert!(message.contains("expected 2 elements, found 1 elements"), "{message}");
    }
}
