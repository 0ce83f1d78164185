//! Sums over rows.

use rayon::prelude::*;
use treex_core::compute::math::Real;
use treex_core::compute::simd::{Kernel, dispatch};

/// Rows that one thread sums at a time: their sums are added to each other, so that a long column loses no digits.
const BLOCK: usize = 256;

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 16;

/// The sums of the columns of `x`, `[rows, columns]`.
pub(crate) fn sum_rows<T: Real>(x: &[T], columns: usize) -> Vec<T> {
    let zeros = || vec![T::of(0.); columns];
    if columns == 0 {
        return zeros();
    }
    let block = |block: &[T]| {
        let mut sums = zeros();
        dispatch(Sum { rows: block, sums: &mut sums });
        sums
    };
    let add = |mut a: Vec<T>, b: Vec<T>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a = *a + b);
        a
    };
    let size = BLOCK * columns;
    if x.len() < PARALLEL {
        x.chunks(size).map(block).reduce(add).unwrap_or_else(zeros)
    } else {
        // In order, so that the sums do not depend on who was faster.
        let blocks: Vec<_> = x.par_chunks(size).map(block).collect();
        blocks.into_iter().reduce(add).unwrap_or_else(zeros)
    }
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
