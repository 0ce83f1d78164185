//! Sums of a matrix over its first axis.

use crate::error::{Error, Result};
use crate::isa::{Kernel, dispatch};
use crate::math::Real;
use crate::memory::zeros;
use crate::parallel::pieces;

/// Rows that one thread sums at a time. Their sums are added to each other, so that a long column loses no digits.
const BLOCK: usize = 256;

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 16;

/// The kernel for devices, of [columns](crate::dialect::COLUMNS), with `IS_PARTIAL` and `IS_ROUNDED` defined.
pub const DIALECT: &str = include_str!("sum_axis0.h");

entry_points! {
    /// Sums over the first axis of a matrix.
    pub trait SumAxis0: Real for [f32, f64] {
        /// `x.sum(axis=0)` of `x`, `[rows, columns]`.
        ///
        /// # Errors
        /// If `x` has not whole rows, or memory cannot be allocated.
        fn sum_axis0(x: &[Self], columns: usize) -> Result<Vec<Self>> = sum_axis0;
    }
}

fn sum_axis0<T: Real>(x: &[T], columns: usize) -> Result<Vec<T>> {
    if !x.len().is_multiple_of(columns) {
        let expected = format!("a multiple of {columns} elements");
        return Err(Error::shape("a matrix to sum over its rows has the wrong size", expected, x.len()));
    }
    if columns == 0 {
        return Ok(Vec::new());
    }
    // Saturating, for rows so long that there can be none.
    let size = columns.saturating_mul(BLOCK);
    let mut sums = zeros::<T>(x.len().div_ceil(size).max(1) * columns)?;
    pieces(&mut sums, columns, x.len() >= PARALLEL, |index, sums| {
        let rows = &x[(index * size).min(x.len())..((index + 1) * size).min(x.len())];
        dispatch(Sum { rows, sums });
    });
    // In order, so that the sums do not depend on the schedule.
    let (total, others) = sums.split_at_mut(columns);
    for sums in others.chunks_exact(columns) {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total = *total + *sum);
    }
    sums.truncate(columns);
    Ok(sums)
}

struct Sum<'a, T> {
    rows: &'a [T],
    sums: &'a mut [T],
}

impl<T: Real> Kernel for Sum<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // Four rows at a time: the sums are read and written once for them.
        let mut fours = self.rows.chunks_exact(4 * self.sums.len());
        for four in &mut fours {
            let (ab, cd) = four.split_at(2 * self.sums.len());
            let ((a, b), (c, d)) = (ab.split_at(self.sums.len()), cd.split_at(self.sums.len()));
            for ((((sum, a), b), c), d) in self.sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *sum = *sum + ((*a + *b) + (*c + *d));
            }
        }
        for row in fours.remainder().chunks_exact(self.sums.len()) {
            for (sum, x) in self.sums.iter_mut().zip(row) {
                *sum = *sum + *x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_rows_are_summed() {
        assert_eq!(f32::sum_axis0(&[1., 2., 3., 4.], 2), Ok(vec![4., 6.]));
        let error = f32::sum_axis0(&[1., 2., 3.], 2).unwrap_err().to_string();
        assert!(error.contains("expected a multiple of 2 elements, found 3"), "{error}");
    }
}
