//! Products of matrices so small that they stay in the cache of a core, where a general product spends much of
//! its time on copies and choices: only whole blocks, whose sums stay in registers.

use crate::isa::{Isa, Kernel, dispatch};
use crate::math::Real;

/// Rows of a block: numbers of rows are multiples of it.
pub const ROWS: usize = 8;

/// Columns of a panel: numbers of columns are multiples of it.
pub const PANEL: usize = 32;

/// `c = a · b`, or `c += a · b`.
#[derive(Debug)]
pub struct Product<'a, R> {
    /// `[rows, columns]`.
    pub c: &'a mut [R],
    /// Between rows of `c`.
    pub c_row: usize,
    /// `[rows, inner]`.
    pub a: &'a [R],
    /// Between rows, and between columns of `a`.
    pub a_strides: [usize; 2],
    /// `[inner, columns]`, where the columns of a panel are neighbours.
    pub b: &'a [R],
    /// Between rows, and between panels of `b`.
    pub b_strides: [usize; 2],
    /// `[rows, inner, columns]`.
    pub sizes: [usize; 3],
    /// Whether to add to what is in `c`.
    pub accumulate: bool,
}

/// Computes a product. Each element is one sum from the first term to the last, on every machine.
///
/// # Panics
/// If the numbers of rows or columns are no multiples, or an element would lie outside of its memory.
pub fn multiply<R: Real>(product: Product<'_, R>) {
    // A block's rows are two vectors where there are 32 registers of 64 bytes, and otherwise 32 bytes.
    match (Isa::best().has_wide_registers(), size_of::<R>()) {
        (true, 8) => dispatch(Blocks::<R, 16>(product)),
        (true, _) => dispatch(Blocks::<R, 32>(product)),
        (false, 8) => dispatch(Blocks::<R, 4>(product)),
        (false, _) => dispatch(Blocks::<R, 8>(product)),
    }
}

/// A product in blocks of [`ROWS`] by `N`.
struct Blocks<'a, R, const N: usize>(Product<'a, R>);

impl<R: Real, const N: usize> Kernel for Blocks<'_, R, N> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Product { c, c_row, a, a_strides, b, b_strides, sizes: [rows, inner, columns], accumulate } =
            self.0;
        if rows == 0 || columns == 0 {
            return;
        }
        let last = inner.saturating_sub(1);
        assert!(rows.is_multiple_of(ROWS) && columns.is_multiple_of(PANEL) && PANEL.is_multiple_of(N));
        assert!((rows - 1) * c_row + columns <= c.len());
        assert!((rows - 1) * a_strides[0] + last * a_strides[1] < a.len());
        assert!((columns / PANEL - 1) * b_strides[1] + last * b_strides[0] + PANEL <= b.len());
        for column in (0..columns).step_by(N) {
            let b_at = column / PANEL * b_strides[1] + column % PANEL;
            for row in (0..rows).step_by(ROWS) {
                // SAFETY: every element of the block is inside of its memory, as was just asserted, and `c` is
                // exclusive.
                unsafe {
                    let c = c.as_mut_ptr().add(row * c_row + column);
                    let a = a.as_ptr().add(row * a_strides[0]);
                    let b = b.as_ptr().add(b_at);
                    block::<R, N>((c, c_row), (a, a_strides), (b, b_strides[0]), inner, accumulate);
                }
            }
        }
    }
}

/// One block. Sums are values that move from step to step: as memory that is written they would leave the registers.
///
/// # Safety
/// The pointers reach as far as the strides say, and nobody else uses `c`.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // iterators over `sums` would borrow them
unsafe fn block<R: Real, const N: usize>(
    (c, c_row): (*mut R, usize),
    (a, [a_row, a_column]): (*const R, [usize; 2]),
    (b, b_row): (*const R, usize),
    inner: usize,
    accumulate: bool,
) {
    let mut sums = [[R::of(0.); N]; ROWS];
    for p in 0..inner {
        // SAFETY: the caller's.
        let (a, b) = unsafe { (a.add(p * a_column), *b.add(p * b_row).cast::<[R; N]>()) };
        let mut next = sums;
        for i in 0..ROWS {
            // SAFETY: the caller's.
            let a = unsafe { *a.add(i * a_row) };
            for j in 0..N {
                next[i][j] = a.mul_add(b[j], sums[i][j]);
            }
        }
        sums = next;
    }
    for i in 0..ROWS {
        // SAFETY: the caller's.
        let c = unsafe { &mut *c.add(i * c_row).cast::<[R; N]>() };
        let mut row = sums[i];
        if accumulate {
            for j in 0..N {
                row[j] = c[j] + row[j];
            }
        }
        *c = row;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `c` must be exact: the numbers are small integers.
    fn check<R: Real, const N: usize>() {
        let numbers = |len: usize| (0..len).map(|i| R::of(((i * 37 + 11) % 23) as f64 - 11.)).collect();
        for (rows, inner, columns) in [(8, 1, 32), (24, 7, 64), (16, 5, 32), (0, 3, 32), (8, 3, 0)] {
            let (a, b): (Vec<R>, Vec<R>) = (numbers(rows * inner + 1), numbers(inner * columns + PANEL));
            for (a_strides, panels) in [([inner, 1], false), ([1, rows], true)] {
                let b_strides = if panels { [PANEL, inner * PANEL] } else { [columns, PANEL] };
                let mut c = numbers(rows * (columns + 3));
                let before: Vec<R> = c.clone();
                for accumulate in [false, true] {
                    let (c, c_row) = (&mut c[..], columns + 3);
                    let sizes = [rows, inner, columns];
                    let product = Product { c, c_row, a: &a, a_strides, b: &b, b_strides, sizes, accumulate };
                    dispatch(Blocks::<R, N>(product));
                }
                for (at, (&found, &before)) in c.iter().zip(&before).enumerate() {
                    let (i, j) = (at / (columns + 3), at % (columns + 3));
                    let wanted = (0..inner).map(|p| {
                        let b = b[p * b_strides[0] + j / PANEL * b_strides[1] + j % PANEL];
                        (a[i * a_strides[0] + p * a_strides[1]] * b).to_f64() * 2.
                    });
                    let wanted = if j < columns { wanted.sum() } else { before.to_f64() };
                    assert_eq!(found.to_f64(), wanted, "{rows} {inner} {columns} at {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn blocks_of_every_machine() {
        check::<f32, 32>();
        check::<f32, 8>();
        check::<f64, 16>();
        check::<f64, 4>();
    }
}
