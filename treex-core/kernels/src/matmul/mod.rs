//! Products of matrices, into existing or new memory.

mod block;
mod matrix;
mod packing;
mod scratch;

use std::mem::MaybeUninit;

use self::block::{Block, Init};
pub use self::matrix::Matrix;
use self::matrix::check;
use crate::error::{Error, Result};
use crate::fill::filled;
use crate::gather_gemm::max_width;
use crate::memory::{product as count_of, with_capacity};
use crate::parallel::{Shared, for_each, pieces};
use crate::vector::Vectors;

entry_points! {
    /// Products of matrices.
    pub trait MatMul: Vectors for [f32, f64] {
        /// `a · b + bias` in new memory, row-major; see [`matmul_into`](MatMul::matmul_into).
        ///
        /// # Errors
        /// If the sizes do not fit, or memory cannot be allocated.
        fn matmul(
            a: Matrix<'_, Self>,
            b: Matrix<'_, Self>,
            bias: Option<&[Self]>,
            parallel: bool,
        ) -> Result<Vec<Self>> = product;

        /// `c = a · b + bias`, where `c` is `[rows of a, columns of b]` with the stride `row`, and `bias` is added to each
        /// row. On all cores if it is large and `parallel`; the result is the same on one.
        ///
        /// # Errors
        /// If the sizes do not fit.
        fn matmul_into(
            c: &mut [MaybeUninit<Self>],
            row: usize,
            a: Matrix<'_, Self>,
            b: Matrix<'_, Self>,
            bias: Option<&[Self]>,
            parallel: bool,
        ) -> Result<()> = multiply;

        /// `a · b` for each of `count` pairs of matrices that follow each other in memory: `[count, m, k]` by
        /// `[count, k, n]`, where `sizes` are `[m, k, n]` and a transposed operand has its last two axes exchanged.
        ///
        /// A row of a result has the same bits in a product of any number of rows and of pairs. [`matmul`](MatMul::matmul)
        /// sums a few rows in another order, which is faster.
        ///
        /// # Errors
        /// If an operand has another number of elements, or memory cannot be allocated.
        fn matmul_each(
            a: &[Self],
            b: &[Self],
            count: usize,
            sizes: [usize; 3],
            is_transposed: [bool; 2],
        ) -> Result<Vec<Self>> = products;

        /// `c += scale · a · b`; see [`matmul_into`](MatMul::matmul_into).
        ///
        /// # Errors
        /// If the sizes do not fit.
        fn matmul_add(
            c: &mut [Self],
            row: usize,
            a: Matrix<'_, Self>,
            b: Matrix<'_, Self>,
            scale: Self,
            parallel: bool,
        ) -> Result<()> = multiply_add;
    }
}

/// Fewer multiplications than this run on the calling thread.
const PARALLEL: usize = 1 << 18;

/// With at most this many rows, `b` is read once, in place.
const SKINNY: usize = 8;

fn multiply<T: Vectors>(
    c: &mut [MaybeUninit<T>],
    row: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    bias: Option<&[T]>,
    parallel: bool,
) -> Result<()> {
    if let Some(bias) = bias.filter(|bias| bias.len() != b.columns) {
        let expected = format!("{} elements", b.columns);
        return Err(Error::shape("a bias does not fit a product of matrices", expected, bias.len()));
    }
    let init = bias.map_or(Init::Zero, Init::Bias);
    // SAFETY: `MaybeUninit<T>` has the layout of `T`, and `c` is not read.
    unsafe { write(c.as_mut_ptr().cast(), c.len(), row, a, b, init, parallel) }
}

fn product<T: Vectors>(
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    bias: Option<&[T]>,
    parallel: bool,
) -> Result<Vec<T>> {
    let elements = a.rows.saturating_mul(b.columns);
    let mut c = with_capacity(elements)?;
    multiply(&mut c.spare_capacity_mut()[..elements], b.columns, a, b, bias, parallel)?;
    // SAFETY: without gaps between rows, every element was written.
    unsafe { c.set_len(elements) };
    Ok(c)
}

fn multiply_add<T: Vectors>(
    c: &mut [T],
    row: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    scale: T,
    parallel: bool,
) -> Result<()> {
    // SAFETY: the elements of `c` are initialized.
    unsafe { write(c.as_mut_ptr(), c.len(), row, a, b, Init::Accumulate(scale), parallel) }
}

/// # Safety
/// `c` points to `len` elements that nothing else uses, initialized if the product is added to them.
unsafe fn write<T: Vectors>(
    c: *mut T,
    len: usize,
    row: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    init: Init<'_, T>,
    parallel: bool,
) -> Result<()> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if k != b.rows {
        return Err(Error::shape(
            "the sizes of two matrices do not fit",
            format!("[{m}, {k}] by [{k}, ..]"),
            format!("[{m}, {k}] by [{}, {n}]", b.rows),
        ));
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    if m > 1 && row < n {
        return Err(Error::shape("the rows of a product overlap", format!("a step of at least {n}"), row));
    }
    check(len, [m, n], [row, 1])?;
    if n == 1 && row == 1 && m > 1 && a.column != 1 && !matches!(init, Init::Bias(_)) {
        // A contiguous column is a row of the transpose, which is computed in vectors.
        // SAFETY: it is the same memory.
        return unsafe { write(c, len, m, b.t(), a.t(), init, parallel) };
    }
    // SAFETY: as promised; sizes were checked here, and the matrices when they were made.
    unsafe { blocks(c, row, a, b, init, parallel, m <= SKINNY || n == 1) };
    Ok(())
}

fn products<T: Vectors>(
    a: &[T],
    b: &[T],
    count: usize,
    [m, k, n]: [usize; 3],
    is_transposed: [bool; 2],
) -> Result<Vec<T>> {
    let lens = [[m, k], [k, n], [m, n]].map(|[rows, columns]| count_of([count, rows, columns]));
    let (true, Some(len)) = (lens[..2] == [Some(a.len()), Some(b.len())], lens[2]) else {
        let expected = format!("{count} times [{m}, {k}] by [{k}, {n}]");
        let found = format!("{} by {} elements", a.len(), b.len());
        return Err(Error::shape("operands of products have another size", expected, found));
    };
    let is_across = count >= rayon::current_num_threads() && len.saturating_mul(k) >= PARALLEL;
    let matrix = |elements, rows, columns, is_transposed| {
        let [row, column] = if is_transposed { [1, rows] } else { [columns, 1] };
        Matrix { elements, rows, columns, row, column }
    };
    // SAFETY: the pieces make up the buffer, and a product writes every element of its own.
    unsafe {
        filled(len, |c| {
            pieces(c, m * n, is_across, |at, c| {
                let a = matrix(&a[at * m * k..][..m * k], m, k, is_transposed[0]);
                let b = matrix(&b[at * k * n..][..k * n], k, n, is_transposed[1]);
                blocks(c.as_mut_ptr().cast(), n, a, b, Init::Zero, !is_across, false);
            });
        })
    }
}

/// The product in blocks, on all cores if it is large and `parallel`.
///
/// # Safety
/// `c` points to the rows of the product, a step of `row` elements from one to the next, which do not overlap and which
/// nothing else uses; they are initialized if the product is added to them. The sizes fit and are not 0, but for the
/// columns of `a`, and every element that the strides of `a` and `b` reach is in bounds.
unsafe fn blocks<T: Vectors>(
    c: *mut T,
    row: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    init: Init<'_, T>,
    parallel: bool,
    is_skinny: bool,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    let (threads, max_width) = (rayon::current_num_threads(), max_width::<T>(false));
    let is_large = m.saturating_mul(n).saturating_mul(k) >= PARALLEL;
    let pieces = if parallel && is_large { threads } else { 1 };
    // Threads with the same columns would each pack them: columns are split first, unless that makes them narrow.
    let across = (1..=n / (2 * max_width)).rev().find(|across| pieces.is_multiple_of(*across)).unwrap_or(1);
    let size = |len: usize, pieces: usize| len.div_ceil(pieces).next_multiple_of(T::registers().0).max(1);
    let (height, width) = (size(m, pieces / across), size(n, across));
    let c = Shared::new(c);
    let piece = |index: usize| {
        let (top, left) = (index / across * height, index % across * width);
        if top >= m || left >= n {
            return;
        }
        let (a, b) = (a.rows(top, (top + height).min(m)), b.columns(left, (left + width).min(n)));
        let init = match init {
            Init::Bias(row) => Init::Bias(&row[left..]),
            other => other,
        };
        // SAFETY: every element that sizes and strides reach is in bounds and `c` is exclusive, as promised; pieces are
        // disjoint.
        T::dispatch(unsafe { Block::new(c.at(top * row + left), row, a, b, init, is_skinny) });
    };
    for_each(pieces, true, &piece);
}

#[cfg(test)]
mod tests;
