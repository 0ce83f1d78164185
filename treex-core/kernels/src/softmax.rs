//! Softmax of rows: each row is read once from memory, forward and backward.
//!
//! Half types are computed in `f32` and rounded once.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::fill::filled;
use crate::float::Float;
use crate::isa::{Kernel, dispatch};
use crate::log_sum_exp::LogSumExp;
use crate::math::Real;
use crate::parallel::pieces;
use crate::reduce::{largest, sums, sums2};

/// The kernels for devices: of [rows](crate::dialect::ROWS), with `IS_LOG` defined.
pub const DIALECT: &str = include_str!("softmax.h");

entry_points! {
    /// Softmax of rows of `row` elements, of which an array holds any number.
    pub trait Softmax: Float for [f32, f64, bf16, f16] {
        /// `y = exp(x - max(x)) / sum(exp(x - max(x)))` of each row.
        ///
        /// # Errors
        /// If the lengths are not those of whole rows, or memory cannot be allocated.
        fn softmax(x: &[Self], row: usize) -> Result<Vec<Self>> = softmax;

        /// `log(softmax(x))` of each row.
        ///
        /// # Errors
        /// If the lengths are not those of whole rows, or memory cannot be allocated.
        fn log_softmax(x: &[Self], row: usize) -> Result<Vec<Self>> = log_softmax;

        /// `dx = y * (dy - sum(y * dy))`, from the output `y` of a softmax.
        ///
        /// # Errors
        /// If the lengths are not those of whole rows, or memory cannot be allocated.
        fn softmax_backward(y: &[Self], dy: &[Self], row: usize) -> Result<Vec<Self>> = softmax_backward;

        /// `dx = dy - softmax(x) * sum(dy)`, from the input `x`: rounded logarithms have few digits.
        ///
        /// # Errors
        /// If the lengths are not those of whole rows, or memory cannot be allocated.
        fn log_softmax_backward(x: &[Self], dy: &[Self], row: usize) -> Result<Vec<Self>> = log_softmax_backward;
    }
}

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 14;

/// Elements of a piece.
const PIECE: usize = 1 << 14;

/// A new buffer of `len` elements, written by `kernel` in pieces of whole rows; it receives the index of the piece's
/// first element.
fn map_rows<T: Send>(
    len: usize,
    row: usize,
    kernel: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync,
) -> Result<Vec<T>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    if row == 0 || !len.is_multiple_of(row) {
        return Err(Error::shape("a softmax needs whole rows", format!("rows of {row}"), len));
    }
    let piece_len = (PIECE / row).max(1) * row;
    // SAFETY: the kernels write each row of each piece, and pieces are whole rows.
    unsafe { filled(len, |y| pieces(y, piece_len, len >= PARALLEL, |index, y| kernel(index * piece_len, y))) }
}

fn check_len<T>(x: &[T], dy: &[T]) -> Result<()> {
    if x.len() == dy.len() {
        return Ok(());
    }
    Err(Error::shape("a gradient has as many elements as its softmax", x.len(), dy.len()))
}

fn softmax<T: Float>(x: &[T], row: usize) -> Result<Vec<T>> {
    map_rows(x.len(), row, |first, y| {
        let x = &x[first..first + y.len()];
        dispatch(Forward { x, exponentials: &mut vec![T::Wide::of(0.); row], y });
    })
}

fn log_softmax<T: Float>(x: &[T], row: usize) -> Result<Vec<T>> {
    map_rows(x.len(), row, |first, y| dispatch(LogForward { x: &x[first..first + y.len()], row, y }))
}

fn softmax_backward<T: Float>(y: &[T], dy: &[T], row: usize) -> Result<Vec<T>> {
    check_len(y, dy)?;
    map_rows(y.len(), row, |first, dx| {
        let range = first..first + dx.len();
        dispatch(Backward { y: &y[range.clone()], dy: &dy[range], row, dx });
    })
}

fn log_softmax_backward<T: Float>(x: &[T], dy: &[T], row: usize) -> Result<Vec<T>> {
    check_len(x, dy)?;
    map_rows(x.len(), row, |first, dx| {
        let range = first..first + dx.len();
        dispatch(LogBackward { x: &x[range.clone()], dy: &dy[range], row, dx });
    })
}

struct Forward<'a, T: Float> {
    x: &'a [T],
    /// Memory for a row.
    exponentials: &'a mut [T::Wide],
    y: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (row, exponentials) = (self.exponentials.len(), self.exponentials);
        for (x, y) in self.x.chunks_exact(row).zip(self.y.chunks_exact_mut(row)) {
            let largest = largest(x, T::widen);
            for (exponential, &x) in exponentials.iter_mut().zip(x) {
                *exponential = (x.widen() - largest).exp();
            }
            let [sum] = sums(exponentials, |exponential| [exponential]);
            for (y, &exponential) in y.iter_mut().zip(&*exponentials) {
                y.write(T::narrow(exponential / sum));
            }
        }
    }
}

struct LogForward<'a, T: Float> {
    x: &'a [T],
    row: usize,
    y: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for LogForward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (x, y) in self.x.chunks_exact(self.row).zip(self.y.chunks_exact_mut(self.row)) {
            let log_sum_exp = LogSumExp::of(x);
            for (y, &x) in y.iter_mut().zip(x) {
                y.write(T::narrow(log_sum_exp.log_softmax(x.widen())));
            }
        }
    }
}

struct Backward<'a, T: Float> {
    y: &'a [T],
    dy: &'a [T],
    row: usize,
    dx: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for Backward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.y.chunks_exact(self.row).zip(self.dy.chunks_exact(self.row));
        for ((y, dy), dx) in rows.zip(self.dx.chunks_exact_mut(self.row)) {
            let [sum] = sums2(y, dy, |y, dy| [y.widen() * dy.widen()]);
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                dx.write(T::narrow(y.widen() * (dy.widen() - sum)));
            }
        }
    }
}

struct LogBackward<'a, T: Float> {
    x: &'a [T],
    dy: &'a [T],
    row: usize,
    dx: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for LogBackward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.x.chunks_exact(self.row).zip(self.dy.chunks_exact(self.row));
        for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(self.row)) {
            let log_sum_exp = LogSumExp::of(x);
            let [sum] = sums(dy, |dy| [dy.widen()]);
            for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                let softmax = log_sum_exp.log_softmax(x.widen()).exp();
                dx.write(T::narrow(dy.widen() - softmax * sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the formula in `f64`, over lengths around those of lanes and pieces.
    #[test]
    fn rows_of_all_lengths() -> Result<()> {
        for (rows, row) in [(0, 3), (1, 1), (5, 7), (3, 64), (40, 500)] {
            let x: Vec<f64> = (0..rows * row).map(|i| ((i * 37 + 11) % 23) as f64 * 0.3 - 3.).collect();
            let dy: Vec<f64> = x.iter().map(|x| (x * 1.7).sin()).collect();
            let (y, log_y) = (f64::softmax(&x, row)?, f64::log_softmax(&x, row)?);
            let (dx, log_dx) =
                (f64::softmax_backward(&y, &dy, row)?, f64::log_softmax_backward(&x, &dy, row)?);
            for at in (0..rows * row).step_by(row) {
                let range = at..at + row;
                let sum: f64 = x[range.clone()].iter().map(|x| x.exp()).sum();
                let dot: f64 = range.clone().map(|i| x[i].exp() / sum * dy[i]).sum();
                let total: f64 = dy[range.clone()].iter().sum();
                for i in range {
                    let softmax = x[i].exp() / sum;
                    let expected = [softmax, softmax.ln(), softmax * (dy[i] - dot), dy[i] - softmax * total];
                    for (found, expected) in [y[i], log_y[i], dx[i], log_dx[i]].into_iter().zip(expected) {
                        assert!((found - expected).abs() < 1e-12, "{rows} {row} {i}: {found} {expected}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn wrong_sizes_are_errors() {
        assert!(f32::softmax(&[1., 2., 3.], 2).is_err() && f32::log_softmax(&[1.], 0).is_err());
        assert!(f32::softmax_backward(&[1., 2.], &[1.], 2).is_err());
        assert!(f32::log_softmax_backward(&[1., 2.], &[1.], 2).is_err());
    }
}
