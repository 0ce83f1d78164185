//! Squared errors of two arrays: one read of both forward, and one backward.

use std::mem::MaybeUninit;

use crate::error::{Error, Result};
use crate::fill::{Fill, collect};
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::reduce::{sums2, total2};

entry_points! {
    /// Squared errors of predictions `p` and targets `t`.
    pub trait SquaredError: Real for [f32, f64] {
        /// `sum((p - t)²)`: runs of some thousand elements in the element type, their sums in `f64`.
        ///
        /// # Errors
        /// If the lengths differ.
        fn sum_squared_error(p: &[Self], t: &[Self]) -> Result<f64> = sum_squared_error;

        /// `(p - t) * factor`: the gradient for `p` with `factor = 2 * cotangent`, and for `t` with its negative.
        ///
        /// # Errors
        /// If the lengths differ, or memory cannot be allocated.
        fn scaled_error(p: &[Self], t: &[Self], factor: Self) -> Result<Vec<Self>> = scaled_error;
    }
}

fn check_lengths<T>(p: &[T], t: &[T]) -> Result<()> {
    if p.len() == t.len() {
        return Ok(());
    }
    Err(Error::shape(
        "predictions and targets of different lengths",
        format_args!("{} targets", p.len()),
        t.len(),
    ))
}

fn sum_squared_error<T: Real>(p: &[T], t: &[T]) -> Result<f64> {
    check_lengths(p, t)?;
    Ok(total2(p, t, |p, t| dispatch(Squares { p, t }).to_f64()))
}

fn scaled_error<T: Real>(p: &[T], t: &[T], factor: T) -> Result<Vec<T>> {
    check_lengths(p, t)?;
    collect(p.len(), &Errors { p, t, factor })
}

struct Squares<'a, T> {
    p: &'a [T],
    t: &'a [T],
}

impl<T: Real> Kernel for Squares<'_, T> {
    type Output = T;

    #[inline(always)]
    fn run(self) -> T {
        let [sum] = sums2(self.p, self.t, |p, t| [(p - t) * (p - t)]);
        sum
    }
}

struct Errors<'a, T> {
    p: &'a [T],
    t: &'a [T],
    factor: T,
}

// SAFETY: the slices of `p` and `t` are as long as the piece, so that each element of it is written.
unsafe impl<T: Real> Fill<T> for Errors<'_, T> {
    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let (p, t) = (&self.p[first..][..piece.len()], &self.t[first..][..piece.len()]);
        for ((error, &p), &t) in piece.iter_mut().zip(p).zip(t) {
            error.write((p - t) * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain loop, over lengths around those of lanes, pieces and what all cores share.
    #[test]
    fn of_all_lengths() -> Result<()> {
        for len in [0, 1, 63, 64, 65, 1000, (1 << 13) + 1, (1 << 17) + 3] {
            let p: Vec<f64> = (0..len).map(|i| f64::from((i * 37 + 11) % 23) * 0.3 - 3.).collect();
            let t: Vec<f64> = (0..len).map(|i| f64::from((i * 17 + 5) % 19) * 0.2 - 2.).collect();
            let expected: f64 = p.iter().zip(&t).map(|(p, t)| (p - t).powi(2)).sum();
            let found = f64::sum_squared_error(&p, &t)?;
            assert!((found - expected).abs() <= 1e-12 * expected.max(1.), "{len}: {found} {expected}");
            let errors = f64::scaled_error(&p, &t, -0.5)?;
            assert!(errors.len() == p.len());
            assert!(errors.iter().zip(p.iter().zip(&t)).all(|(error, (p, t))| *error == (p - t) * -0.5));

            let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<_>>();
            let (p, t) = (narrow(&p), narrow(&t));
            let found = f32::sum_squared_error(&p, &t)?;
            assert!((found - expected).abs() <= 1e-5 * expected.max(1.), "{len}: {found} {expected}");
            let errors = f32::scaled_error(&p, &t, 2.)?;
            assert!(errors.iter().zip(p.iter().zip(&t)).all(|(error, (p, t))| *error == (p - t) * 2.));
        }
        Ok(())
    }

    #[test]
    fn different_lengths() {
        assert!(f32::sum_squared_error(&[1., 2.], &[1.]).is_err());
        let message = f32::scaled_error(&[1.], &[1., 2.], 1.).expect_err("different lengths").to_string();
        assert!(message.contains("expected 1 targets, found 2"), "{message}");
    }
}
