//! Products of matrices that fit into a core's cache, where a general product would spend much of its time on packing
//! and dispatch: whole blocks only, accumulated in registers.

use crate::isa::{Isa, Kernel, dispatch};
use crate::math::Real;

/// Rows of a block; the rows of a product must be a multiple of it.
pub(crate) const ROWS: usize = 8;

/// Columns of a panel; the columns of a product must be a multiple of it.
pub(crate) const PANEL: usize = 32;

/// `c = a · b`, or `c += a · b`.
#[derive(Debug)]
pub(crate) struct Product<'a, R> {
    /// `[rows, columns]`.
    pub(crate) c: &'a mut [R],
    /// Elements from one row of `c` to the next.
    pub(crate) c_row: usize,
    /// `[rows, inner]`.
    pub(crate) a: &'a [R],
    /// The strides of `a` along rows and columns.
    pub(crate) a_strides: [usize; 2],
    /// `[inner, columns]`, where the columns of a panel are contiguous.
    pub(crate) b: &'a [R],
    /// Elements from one row, and from one panel, of `b` to the next.
    pub(crate) b_strides: [usize; 2],
    /// `[rows, inner, columns]`.
    pub(crate) sizes: [usize; 3],
    /// Whether to add to `c` instead of overwriting it.
    pub(crate) accumulate: bool,
}

/// Computes a product. Each element is summed from the first term to the last, on every machine.
///
/// # Panics
/// If rows or columns are not such multiples, or an element is out of bounds.
pub(crate) fn multiply<R: Real>(product: Product<'_, R>) {
    // A row of a block is two vectors with 32 registers of 64 bytes, otherwise one vector of 32 bytes.
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
        // Saturating: an index that overflows is out of bounds too.
        let at = |i: usize, i_stride: usize, j: usize, j_stride: usize| {
            i.saturating_mul(i_stride).saturating_add(j.saturating_mul(j_stride))
        };
        assert!(at(rows - 1, c_row, columns - 1, 1) < c.len());
        assert!(at(rows - 1, a_strides[0], last, a_strides[1]) < a.len());
        assert!(at(columns / PANEL - 1, b_strides[1], last, b_strides[0]).saturating_add(PANEL) <= b.len());
        for column in (0..columns).step_by(N) {
            let b_at = column / PANEL * b_strides[1] + column % PANEL;
            for row in (0..rows).step_by(ROWS) {
                // SAFETY: every element of the block is in bounds, as was just asserted, and `c` is exclusive.
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

/// One block. The sums are moved from step to step as values: updated in place they would be spilled to memory.
///
/// # Safety
/// All elements that sizes and strides reach are valid, and nothing else uses those of `c`.
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
        // SAFETY: as the caller promises.
        let (a, b) = unsafe { (a.add(p * a_column), *b.add(p * b_row).cast::<[R; N]>()) };
        let mut next = sums;
        for i in 0..ROWS {
            // SAFETY: as the caller promises.
            let a = unsafe { *a.add(i * a_row) };
            for j in 0..N {
                next[i][j] = a.mul_add(b[j], sums[i][j]);
            }
        }
        sums = next;
    }
    for i in 0..ROWS {
        // SAFETY: as the caller promises.
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
    #[should_panic(expected = "assertion failed")]
    fn strides_that_overflow_are_out_of_bounds() {
        let (a, b, mut c) = ([0f32; 8], [0f32; PANEL], [0f32; ROWS * PANEL]);
        let product = Product {
            c: &mut c,
            c_row: usize::MAX / 4,
            a: &a,
            a_strides: [1, 1],
            b: &b,
            b_strides: [PANEL, PANEL],
            sizes: [ROWS, 1, PANEL],
            accumulate: false,
        };
        multiply(product);
    }

    #[test]
    fn blocks_of_every_isa() {
        check::<f32, 32>();
        check::<f32, 8>();
        check::<f64, 16>();
        check::<f64, 4>();
    }
}
