//! Rows gathered from a table, and their gradient: a scatter-add into the table's rows.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::fill::{Fill, collect};
use crate::float::Float;
use crate::isa::{Kernel, dispatch};
use crate::memory::{product, zeros};
use crate::parallel::pieces;

/// The kernels for devices, of [rows](crate::dialect::ROWS) and [all elements](crate::dialect::EACH), with `IS_LONG` defined.
pub const DIALECT: &str = include_str!("embedding.h");

entry_points! {
    /// Rows of a table, `[n, features]`.
    pub trait Embedding: Float for [f32, f64, bf16, f16] {
        /// `table[rows]`, `[rows.len(), features]`.
        ///
        /// # Errors
        /// If `features` is 0, the table is not whole rows, one of `rows` is not in the table, or memory cannot be
        /// allocated.
        fn gather(table: &[Self], rows: &[u32], features: usize) -> Result<Vec<Self>> = gather;

        /// `zeros([n, features]).at[rows].add(dy)`: sums in the order of `rows`, where half types are summed in `f32`.
        ///
        /// # Errors
        /// If `features` is 0, `dy` is not one row for each of `rows`, one of `rows` is not below `n`, or memory
        /// cannot be allocated.
        fn scatter_add(dy: &[Self], rows: &[u32], n: usize, features: usize) -> Result<Vec<Self>> = scatter_add;
    }
}

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 16;

/// Checks that a table of `n` rows has all of `rows`.
fn check_rows(rows: &[u32], n: usize) -> Result<()> {
    match rows.iter().max() {
        Some(&last) if last as usize >= n => {
            Err(Error::shape("a row index is out of range", format!("less than {n}"), last))
        }
        _ => Ok(()),
    }
}

fn gather<T: Float>(table: &[T], rows: &[u32], features: usize) -> Result<Vec<T>> {
    if features == 0 || !table.len().is_multiple_of(features) {
        let expected = format!("whole rows of {features} elements, at least one");
        return Err(Error::shape(
            "the table has the wrong size",
            expected,
            format!("{} elements", table.len()),
        ));
    }
    check_rows(rows, table.len() / features)?;
    let len = product([rows.len(), features]).ok_or(Error::OutOfMemory { elements: usize::MAX })?;
    collect(len, &Gather { table, rows, features })
}

struct Gather<'a, T> {
    table: &'a [T],
    rows: &'a [u32],
    features: usize,
}

// SAFETY: runs of elements cover the piece from its beginning to its end.
unsafe impl<T: Float> Fill<T> for Gather<'_, T> {
    #[inline(always)]
    fn write(&self, first: usize, mut piece: &mut [MaybeUninit<T>]) {
        let (mut at, mut skipped) = (first / self.features, first % self.features);
        while !piece.is_empty() {
            let from = &self.table[self.rows[at] as usize * self.features..][skipped..self.features];
            let (to, rest) = piece.split_at_mut(from.len().min(piece.len()));
            for (to, from) in to.iter_mut().zip(from) {
                to.write(*from);
            }
            (piece, at, skipped) = (rest, at + 1, 0);
        }
    }
}

/// Each thread has a part of the table, and reads all row indices for those in it.
fn scatter_add<T: Float>(dy: &[T], rows: &[u32], n: usize, features: usize) -> Result<Vec<T>> {
    if features == 0 || rows.len().checked_mul(features) != Some(dy.len()) {
        let expected = format!("{} rows of {features} elements, at least one", rows.len());
        return Err(Error::shape(
            "the gradient has the wrong size",
            expected,
            format!("{} elements", dy.len()),
        ));
    }
    check_rows(rows, n)?;
    let len = product([n, features]).ok_or(Error::OutOfMemory { elements: usize::MAX })?;
    let mut sums = zeros::<T::Wide>(len)?;
    let is_large = sums.len() + dy.len() >= PARALLEL;
    let parts = if is_large { rayon::current_num_threads() } else { 1 };
    let part = n.div_ceil(parts).max(1);
    pieces(&mut sums, part * features, is_large, |at, sums| {
        dispatch(AddRows { dy, rows, features, first: at * part, sums });
    });
    collect(sums.len(), &Narrow(&sums))
}

/// Adds the rows of `dy` that belong to the table's rows from `first` on.
struct AddRows<'a, T: Float> {
    dy: &'a [T],
    rows: &'a [u32],
    features: usize,
    first: usize,
    sums: &'a mut [T::Wide],
}

impl<T: Float> Kernel for AddRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let count = self.sums.len() / self.features;
        for (row, dy) in self.rows.iter().zip(self.dy.chunks_exact(self.features)) {
            let row = (*row as usize).wrapping_sub(self.first);
            if row < count {
                for (sum, dy) in self.sums[row * self.features..][..self.features].iter_mut().zip(dy) {
                    *sum = *sum + dy.widen();
                }
            }
        }
    }
}

/// Sums, rounded to elements.
struct Narrow<'a, W>(&'a [W]);

// SAFETY: there is a sum for each element of the piece.
unsafe impl<T: Float> Fill<T> for Narrow<'_, T::Wide> {
    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let sums = &self.0[first..][..piece.len()];
        for (to, sum) in piece.iter_mut().zip(sums) {
            to.write(T::narrow(*sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes around those of pieces, and above that from which threads share the work.
    #[test]
    fn gathered_and_added_row_by_row() -> Result<()> {
        for (n, features, count) in [(1, 1, 0), (1, 1, 5), (5, 3, 8), (7, 8192, 3), (300, 260, 360)] {
            let table: Vec<f64> = (0..n * features).map(|i| ((i * 37 + 11) % 23) as f64).collect();
            let rows: Vec<u32> = (0..count).map(|i| (i * i * 7 % n) as u32).collect();
            let dy: Vec<f64> = (0..count * features).map(|i| ((i * 31 + 5) % 19) as f64 - 9.).collect();
            let (mut expected, mut sums) = (Vec::new(), vec![0.; n * features]);
            for (&row, dy) in rows.iter().zip(dy.chunks_exact(features)) {
                let range = row as usize * features..(row as usize + 1) * features;
                expected.extend_from_slice(&table[range.clone()]);
                sums[range].iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            }
            assert_eq!(f64::gather(&table, &rows, features)?, expected);
            assert_eq!(f64::scatter_add(&dy, &rows, n, features)?, sums);
        }
        Ok(())
    }

    /// 1, and then 512 times 2^-9, each of which `bf16` would round away.
    #[test]
    fn half_types_are_summed_in_f32() -> Result<()> {
        let mut dy = vec![bf16::from_f32(2f32.powi(-9)); 513];
        dy[0] = bf16::ONE;
        assert_eq!(bf16::scatter_add(&dy, &[0; 513], 1, 1)?, [bf16::from_f32(2.)]);
        Ok(())
    }

    #[test]
    fn wrong_sizes() {
        let messages = [
            f32::gather(&[1., 2.], &[2], 1),
            f32::gather(&[1., 2., 3.], &[0], 2),
            f32::gather(&[], &[], 0),
            f32::scatter_add(&[1.], &[3], 3, 1),
            f32::scatter_add(&[1.], &[0], 3, 2),
        ]
        .map(|result| result.expect_err("wrong sizes").to_string());
        assert!(
            messages[0].contains("row index is out of range: expected less than 2, found 2"),
            "{messages:?}"
        );
        assert!(messages[3].contains("expected less than 3, found 3"), "{messages:?}");
    }
}
