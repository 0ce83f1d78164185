//! A product of matrices on one thread.
//!
//! Blocked for the cache: a block of `b` that fits into L2 is packed into panels, in the order in which tiles of the
//! result read it, and multiplied with blocks of rows of `a` that fit there too. The tiles are those of [`Product`].

use std::marker::PhantomData;
use std::slice::from_raw_parts;

use super::matrix::Matrix;
use super::packing::{pack, scale};
use super::scratch::Scratch;
use crate::gather_gemm::{Product, Strided, max_vectors};
use crate::reduce::sums2;
use crate::vector::{Vector, VectorKernel, Vectors};

/// Rows of `b` in a block.
const INNER: usize = 256;

/// Rows of `b` in a block where it is read once, in place: these are streamed from memory.
const INNER_ONCE: usize = 32;

/// Bytes of a block of `b` in a row.
const WIDTH: usize = 2048;

/// Rows of `a` in a block: a multiple of all heights of tiles.
const ROWS: usize = 96;

/// Rows of `b` that are packed at a time, for all panels.
const COPIED: usize = 8;

/// At least the largest width of a tile of any instruction set.
const ZEROS: usize = 64;

/// The initial value of a result.
#[derive(Clone, Copy, Debug)]
pub(super) enum Init<'a, T> {
    /// Zeros.
    Zero,
    /// This row in each row.
    Bias(&'a [T]),
    /// The existing result, to which the product times this factor is added.
    Accumulate(T),
}

/// The shortest sums that [`Block::dots`] is used for.
const DOTS: usize = 64;

/// `c = init + a · b` on one thread. Sizes and strides have been checked: see [`Self::new`].
pub(super) struct Block<'a, T> {
    c: *mut T,
    /// Elements from one row of `c` to the next.
    row: usize,
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    init: Init<'a, T>,
    /// Whether `a` has so few rows, or `b` so few columns, that packing the other does not pay.
    is_skinny: bool,
}

impl<'a, T> Block<'a, T> {
    /// # Safety
    /// The sizes fit, every element that sizes and strides reach is in bounds, and nothing else uses
    /// those of `c` while the block runs. They are initialized if the product is added to them.
    pub(super) unsafe fn new(
        c: *mut T,
        row: usize,
        a: Matrix<'a, T>,
        b: Matrix<'a, T>,
        init: Init<'a, T>,
        is_skinny: bool,
    ) -> Self {
        Self { c, row, a, b, init, is_skinny }
    }
}

impl<T: Vectors> VectorKernel<T> for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        let Self { c, row, a, b, init, is_skinny } = self;
        let [m, k, n] = [a.rows, a.columns, b.columns];
        if a.column == 1 && b.row == 1 && is_skinny && k >= DOTS {
            // SAFETY: what holds for [`Block::new`].
            return unsafe { self.dots() };
        }
        let once = is_skinny && b.column == 1;
        let inner = if once { INNER_ONCE } else { INNER };
        // Blocks of equal size, in whole vectors of every instruction set, so that sums do not depend on it.
        let inner = k.div_ceil(k.div_ceil(inner).max(1)).next_multiple_of(16).max(1);
        let width = if once { n } else { n.min(WIDTH / size_of::<T>()) };
        let factor = if let Init::Accumulate(factor) = init { factor } else { T::of(1.) };
        let zeros = [T::of(0.); ZEROS];
        let mut scratch = Scratch::take();
        let buffers: [*mut T; 2] = scratch.buffers((width + V::LANES) * inner, (ROWS + V::LANES) * inner);
        for left in (0..n).step_by(width.max(1)) {
            let panels = Panels::<V>::new((n - left).min(width));
            for p in (0..k.max(1)).step_by(inner) {
                let inner = inner.min(k - p);
                let b = b.rows(p, p + inner).columns(left, left + panels.width);
                let in_place = |last: usize| once && factor == T::of(1.) && last.is_multiple_of(V::LANES);
                // SAFETY: the buffer holds the rows of all panels, in whole vectors.
                unsafe {
                    let step = if b.column == 1 { COPIED } else { INNER };
                    for i in (0..inner).step_by(step) {
                        let copied = step.min(inner - i);
                        for (first, last, row) in panels.iter() {
                            if !in_place(last) {
                                let to = buffers[0].add(first * inner + i * row);
                                pack::<V>(to, row, b.rows(i, i + copied).columns(first, last));
                                if factor != T::of(1.) {
                                    scale(to, copied * row, factor);
                                }
                            }
                        }
                    }
                }
                for i in (0..m).step_by(ROWS) {
                    let mut a = a.rows(i, (i + ROWS).min(m)).columns(p, p + inner);
                    if a.column != 1 && panels.count > 1 {
                        let row = a.rows.next_multiple_of(V::LANES);
                        // SAFETY: the buffer holds `inner` rows of this length.
                        let elements = unsafe {
                            pack::<V>(buffers[1], row, a.t());
                            from_raw_parts(buffers[1], inner * row)
                        };
                        a = Matrix { elements, row: 1, column: row, ..a };
                    }
                    for (first, last, panel) in panels.iter() {
                        let (elements, b_row) = if in_place(last) {
                            (b.elements.get(first..).unwrap_or_default(), b.row)
                        } else {
                            // SAFETY: it was written above.
                            (unsafe { from_raw_parts(buffers[0].add(first * inner), inner * panel) }, panel)
                        };
                        let start = match init {
                            Init::Zero if p == 0 => Some(&zeros[..]),
                            Init::Bias(row) if p == 0 => Some(&row[left + first..]),
                            _ => None,
                        };
                        let product = Product {
                            x: a.elements,
                            rows: Strided { count: a.rows, step: a.row },
                            columns: Strided { count: inner, step: a.column },
                            b: elements,
                            b_row,
                            targets: Strided { count: a.rows, step: row },
                            width: last - first,
                            start,
                            depthwise: false,
                        };
                        // SAFETY: it reads elements of the matrices or packed copies, and writes elements of `c`.
                        unsafe { product.write_with::<V>(c.add(i * row + left + first)) };
                    }
                }
            }
        }
        scratch.release();
    }
}

impl<T: Vectors> Block<'_, T> {
    /// Dot products of contiguous rows of `a` and contiguous columns of `b`, without packing.
    ///
    /// # Safety
    /// What holds for [`Block::new`].
    #[inline(always)]
    unsafe fn dots(self) {
        let Self { c, row, a, b, init, .. } = self;
        for j in 0..b.columns {
            let column = &b.elements[j * b.column..][..b.rows];
            for i in 0..a.rows {
                let [dot] = sums2(&a.elements[i * a.row..][..a.columns], column, |a, b| [a * b]);
                // SAFETY: as the caller promises.
                unsafe {
                    let c = c.add(i * row + j);
                    *c = match init {
                        Init::Zero => dot,
                        Init::Bias(row) => row[j] + dot,
                        Init::Accumulate(factor) => *c + factor * dot,
                    };
                }
            }
        }
    }
}

/// Columns in panels of nearly equal width, in whole vectors, at most as wide as a tile.
struct Panels<V> {
    width: usize,
    count: usize,
    vector: PhantomData<V>,
}

impl<V: Vector> Panels<V> {
    #[inline(always)]
    fn new(width: usize) -> Self {
        let max_width = max_vectors(V::REGISTERS, false) * V::LANES;
        Self { width, count: width.div_ceil(max_width), vector: PhantomData }
    }

    /// For each panel its first column, the one after its last, and its width rounded up to whole vectors.
    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let (width, count, vectors) = (self.width, self.count, self.width.div_ceil(V::LANES));
        let edge = move |panel: usize| vectors * panel / count * V::LANES;
        (0..count).map(move |panel| {
            let (first, last) = (edge(panel), edge(panel + 1));
            (first, last.min(width), last - first)
        })
    }
}
