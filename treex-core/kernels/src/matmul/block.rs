//! A product of matrices on one thread.
//!
//! The product is made of blocks: so many rows of `b` and so many of its columns that they stay in the second cache,
//! copied in the order in which tiles of the result read them, and so many rows of `a` that what they read and
//! write stays there too. The tiles are those of [`Product`].

use std::marker::PhantomData;
use std::slice::from_raw_parts;

use super::Matrix;
use super::packing::{pack, scale};
use super::scratch::Scratch;
use crate::gather_gemm::{Product, Steps, widest_vectors};
use crate::reduce::sums2;
use crate::vector::{Vector, VectorKernel, Vectors};

/// Rows of `b` in a block.
const INNER: usize = 256;

/// Rows of `b` in a block where it is read once, as it lies: these come from memory one after another.
const INNER_ONCE: usize = 32;

/// Bytes of a block of `b` in a row.
const WIDTH: usize = 2048;

/// Rows of `a` in a block: a multiple of all heights of tiles.
const ROWS: usize = 96;

/// Rows of `b` that are copied at a time: those of all panels are neighbours.
const COPIED: usize = 8;

/// As many zeros as a tile of any machine is wide.
const ZEROS: usize = 64;

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a, T> {
    /// Nothing.
    Zero,
    /// In each row this one.
    Row(&'a [T]),
    /// What is there; the product times this number.
    There(T),
}

/// Fewer products in a row than this are not worth a sum of its own; see [`Block::dots`].
const DOTS: usize = 64;

/// `c = start + a · b` on one thread. Sizes and strides were checked before it was made: see [`Self::new`].
pub(super) struct Block<'a, T> {
    c: *mut T,
    /// Between rows of `c`.
    row: usize,
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    start: Start<'a, T>,
    /// Whether rows of `a` or columns of `b` are so few that copies of the other do not pay.
    few: bool,
}

impl<'a, T> Block<'a, T> {
    /// # Safety
    /// The sizes fit, every element that sizes and strides reach is inside of its memory, and nothing else uses
    /// those of `c` while the block runs. They are initialized if the product is added to them.
    pub(super) unsafe fn new(
        c: *mut T,
        row: usize,
        a: Matrix<'a, T>,
        b: Matrix<'a, T>,
        start: Start<'a, T>,
        few: bool,
    ) -> Self {
        Self { c, row, a, b, start, few }
    }
}

impl<T: Vectors> VectorKernel<T> for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        let Self { c, row, a, b, start, few } = self;
        let [m, k, n] = [a.rows, a.columns, b.columns];
        if a.column == 1 && b.row == 1 && few && k >= DOTS {
            // SAFETY: what holds for [`Block::new`].
            return unsafe { self.dots() };
        }
        let once = few && b.column == 1;
        let inner = if once { INNER_ONCE } else { INNER };
        // Blocks of one size, in whole vectors of every machine: the sums are the same everywhere.
        let inner = k.div_ceil(k.div_ceil(inner).max(1)).next_multiple_of(16).max(1);
        let width = if once { n } else { n.min(WIDTH / size_of::<T>()) };
        let factor = if let Start::There(factor) = start { factor } else { T::of(1.) };
        let zeros = [T::of(0.); ZEROS];
        let mut scratch = Scratch::take();
        let room: [*mut T; 2] = scratch.room((width + V::LANES) * inner, (ROWS + V::LANES) * inner);
        for left in (0..n).step_by(width.max(1)) {
            let panels = Panels::<V>::new((n - left).min(width));
            for p in (0..k.max(1)).step_by(inner) {
                let inner = inner.min(k - p);
                let b = b.rows(p, p + inner).columns(left, left + panels.width);
                let in_place = |last: usize| once && factor == T::of(1.) && last.is_multiple_of(V::LANES);
                // SAFETY: the room has the rows of all panels, in whole vectors.
                unsafe {
                    let copied = if b.column == 1 { COPIED } else { INNER };
                    for i in (0..inner).step_by(copied) {
                        let copied = copied.min(inner - i);
                        for (first, last, row) in panels.iter() {
                            if !in_place(last) {
                                let to = room[0].add(first * inner + i * row);
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
                        // SAFETY: the room has `inner` rows of so many elements.
                        let elements = unsafe {
                            pack::<V>(room[1], row, a.t());
                            from_raw_parts(room[1], inner * row)
                        };
                        a = Matrix { elements, row: 1, column: row, ..a };
                    }
                    for (first, last, panel) in panels.iter() {
                        let (elements, b_row) = if in_place(last) {
                            (b.elements.get(first..).unwrap_or_default(), b.row)
                        } else {
                            // SAFETY: it was written above.
                            (unsafe { from_raw_parts(room[0].add(first * inner), inner * panel) }, panel)
                        };
                        let start = match start {
                            Start::Zero if p == 0 => Some(&zeros[..]),
                            Start::Row(row) if p == 0 => Some(&row[left + first..]),
                            _ => None,
                        };
                        let product = Product {
                            x: a.elements,
                            rows: Steps { count: a.rows, step: a.row },
                            columns: Steps { count: inner, step: a.column },
                            b: elements,
                            b_row,
                            targets: Steps { count: a.rows, step: row },
                            width: last - first,
                            start,
                            each: false,
                        };
                        // SAFETY: what it reads is inside of the matrices or was copied; what it writes, of `c`.
                        unsafe { product.write_with::<V>(c.add(i * row + left + first)) };
                    }
                }
            }
        }
        scratch.give_back();
    }
}

impl<T: Vectors> Block<'_, T> {
    /// Where rows of `a` and columns of `b` are contiguous, and one of them is used but a few times: one element after
    /// the other, without copies.
    ///
    /// # Safety
    /// What holds for [`Block::new`].
    #[inline(always)]
    unsafe fn dots(self) {
        let Self { c, row, a, b, start, .. } = self;
        for j in 0..b.columns {
            let column = &b.elements[j * b.column..][..b.rows];
            for i in 0..a.rows {
                let [dot] = sums2(&a.elements[i * a.row..][..a.columns], column, |a, b| [a * b]);
                // SAFETY: as the caller promises.
                unsafe {
                    let c = c.add(i * row + j);
                    *c = match start {
                        Start::Zero => dot,
                        Start::Row(row) => row[j] + dot,
                        Start::There(factor) => *c + factor * dot,
                    };
                }
            }
        }
    }
}

/// Columns in panels of nearly one width, in whole vectors, at most as wide as a tile.
struct Panels<V> {
    width: usize,
    count: usize,
    vector: PhantomData<V>,
}

impl<V: Vector> Panels<V> {
    #[inline(always)]
    fn new(width: usize) -> Self {
        let widest = widest_vectors(V::REGISTERS, false) * V::LANES;
        Self { width, count: width.div_ceil(widest), vector: PhantomData }
    }

    /// For each, its first column, the one after its last, and its width in whole vectors.
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
