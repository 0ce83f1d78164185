//! Products with a matrix that is gathered: element `(i, j)` is read at `rows[i] + columns[j]` of other memory. The
//! blocks of an ordinary product ([`matmul`](super::matmul)) are those whose offsets have a stride.
//!
//! A convolution is such a product (implicit im2col): at output position `i`, tap `j` of the kernel reads
//! `x[rows[i] + columns[j]]`. The gradient of the kernel is another one, with rows and columns exchanged.

use super::isa::prefetch;
use super::vector::{Vector, VectorKernel, Vectors};

/// `c[i] = start + Σ_j x[rows[i] + columns[j]] · b[j]`, where `c[i]` and `b[j]` are rows of elements.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a, T, P> {
    /// The memory that the matrix is gathered from.
    pub x: &'a [T],
    /// The offset of each row.
    pub rows: P,
    /// The offset of each column, added to that of the row.
    pub columns: P,
    /// A row for each of the columns.
    pub b: &'a [T],
    /// Elements from one row of `b` to the next; a row has `width`, rounded up to whole [vectors](Vectors::registers).
    pub b_row: usize,
    /// The offset of each row of the result from the pointer that [`write`](Self::write) takes.
    pub targets: P,
    /// Elements of a row of the result, at most [`max_width`].
    pub width: usize,
    /// The initial value of each row; `None` adds to the existing result.
    pub start: Option<&'a [T]>,
    /// Whether element `o` of a row reads `x[rows[i] + columns[j] + o]`, as in a depthwise convolution, instead of the
    /// same element for all `o`.
    pub depthwise: bool,
}

/// The largest `width` of a [`Product`].
#[must_use]
pub fn max_width<T: Vectors>(depthwise: bool) -> usize {
    let (lanes, registers) = T::registers();
    lanes * max_vectors(registers, depthwise)
}

pub(crate) const fn max_vectors(registers: usize, depthwise: bool) -> usize {
    if depthwise || registers < 32 { 2 } else { 4 }
}

/// A sequence of offsets.
pub trait Offsets: Copy {
    /// How many.
    fn count(&self) -> usize;
    /// The offset at `index`.
    ///
    /// # Safety
    /// `index` is below [`count`](Self::count).
    unsafe fn at(&self, index: usize) -> usize;
}

impl Offsets for &[usize] {
    #[inline(always)]
    fn count(&self) -> usize {
        self.len()
    }

    #[inline(always)]
    unsafe fn at(&self, index: usize) -> usize {
        // SAFETY: as the caller promises.
        unsafe { *self.get_unchecked(index) }
    }
}

/// Multiples of `step`, from 0 on.
#[derive(Clone, Copy, Debug)]
pub struct Strided {
    /// How many.
    pub count: usize,
    /// The difference of neighbours.
    pub step: usize,
}

impl Offsets for Strided {
    #[inline(always)]
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    unsafe fn at(&self, index: usize) -> usize {
        index.wrapping_mul(self.step)
    }
}

impl<T: Vectors, P: Offsets> Product<'_, T, P> {
    /// Computes it on this thread, into the memory at `c`.
    ///
    /// # Safety
    /// Every `rows[i] + columns[j]` is in bounds of `x`; if `depthwise`, so are the `b_row` elements from there on. `b`
    /// has a row for each column, and `start` has `width` elements. The `width` elements at each target are valid,
    /// nothing else uses them, and they are initialized unless there is a `start`.
    pub unsafe fn write(self, c: *mut T) {
        self.check();
        debug_assert!(self.width <= max_width::<T>(self.depthwise));
        // SAFETY: the caller's promise.
        T::dispatch(unsafe { Write::new(self, c) });
    }

    /// Computes it in a kernel for these vectors.
    ///
    /// # Safety
    /// As [`write`](Self::write), and the machine has the instructions of `V`.
    #[inline(always)]
    pub(crate) unsafe fn write_with<V: Vector<Element = T>>(self, c: *mut T) {
        self.check();
        // SAFETY: the caller's promise.
        unsafe { Write::new(self, c).run::<V>() }
    }

    #[inline(always)]
    fn check(&self) {
        if cfg!(debug_assertions) {
            // SAFETY: `index` is below the count.
            let largest = |of: P| (0..of.count()).map(|index| unsafe { of.at(index) }).max();
            if let (Some(row), Some(column)) = (largest(self.rows), largest(self.columns)) {
                let len = if self.depthwise { self.b_row } else { 1 };
                assert!(row + column + len <= self.x.len(), "a product reads beyond its memory");
                assert!(self.b.len() >= (self.columns.count() - 1) * self.b_row + self.width);
            }
            assert!(self.rows.count() == self.targets.count());
            assert!(self.start.is_none_or(|start| start.len() >= self.width));
        }
    }
}

/// A product and where it goes; see [`Self::new`].
struct Write<'a, T, P> {
    product: Product<'a, T, P>,
    c: *mut T,
}

impl<'a, T, P> Write<'a, T, P> {
    /// # Safety
    /// As [`Product::write`].
    unsafe fn new(product: Product<'a, T, P>, c: *mut T) -> Self {
        Self { product, c }
    }
}

impl<T: Vectors, P: Offsets> VectorKernel<T> for Write<'_, T, P> {
    type Output = ();

    /// Tiles as large as the registers hold, with room for a row of `b` and an element of `x`.
    #[inline(always)]
    unsafe fn run<V: Vector<Element = T>>(self) {
        let vectors = self.product.width.div_ceil(V::LANES);
        // SAFETY: the promise of `Product::write`, and the caller's for `V`.
        unsafe {
            match (self.product.depthwise, vectors, V::REGISTERS >= 32) {
                (_, 0, _) => {}
                (false, 1, _) => self.tiles::<V, false, 8, 4, 1>(),
                (false, 2, true) => self.tiles::<V, false, 8, 4, 2>(),
                (false, _, false) => self.tiles::<V, false, 6, 4, 2>(),
                (false, 3, true) => self.tiles::<V, false, 6, 4, 3>(),
                (false, _, true) => self.tiles::<V, false, 6, 4, 4>(),
                (true, 1, _) => self.tiles::<V, true, 8, 4, 1>(),
                (true, _, true) => self.tiles::<V, true, 8, 4, 2>(),
                (true, _, false) => self.tiles::<V, true, 6, 4, 2>(),
            }
        }
    }
}

impl<T: Vectors, P: Offsets> Write<'_, T, P> {
    /// All rows, `R` at a time, then `S`, two, one.
    ///
    /// # Safety
    /// As [`Product::write`]; a row of the result has at most `N` vectors.
    #[inline(always)]
    unsafe fn tiles<V, const DEPTHWISE: bool, const R: usize, const S: usize, const N: usize>(&self)
    where
        V: Vector<Element = T>,
    {
        let (mut at, len) = (0, self.product.rows.count());
        // SAFETY: as promised; the rows of a tile exist.
        unsafe {
            while at + R <= len {
                self.microkernel::<V, DEPTHWISE, R, N>(at);
                at += R;
            }
            while at + S <= len {
                self.microkernel::<V, DEPTHWISE, S, N>(at);
                at += S;
            }
            while at + 2 <= len {
                self.microkernel::<V, DEPTHWISE, 2, N>(at);
                at += 2;
            }
            while at < len {
                self.microkernel::<V, DEPTHWISE, 1, N>(at);
                at += 1;
            }
        }
    }

    /// `R` rows of `N` vectors from `at` on.
    ///
    /// # Safety
    /// As [`Self::tiles`], and `R` rows exist from `at` on.
    #[expect(
        clippy::needless_range_loop,
        reason = "the compiler makes registers of what is indexed by constants"
    )]
    #[inline(always)]
    unsafe fn microkernel<V: Vector<Element = T>, const DEPTHWISE: bool, const R: usize, const N: usize>(
        &self,
        at: usize,
    ) {
        let Product { x, rows, columns, b, b_row, targets, width, start, .. } = self.product;
        // Elements of the last vector of a row.
        let rest = width - (N - 1) * V::LANES;
        // SAFETY: as promised; of the last vectors only `rest` elements are read and written.
        unsafe {
            let (zero, one) = (V::splat(T::of(0.)), V::splat(T::of(1.)));
            // Prefetches the result during the sums.
            let is_long = columns.count() > 4;
            let mut sums = [[zero; N]; R];
            let (mut x_rows, mut to) = ([x.as_ptr(); R], [self.c; R]);
            for r in 0..R {
                x_rows[r] = x_rows[r].wrapping_add(rows.at(at + r));
                to[r] = to[r].add(targets.at(at + r));
                for v in 0..if is_long { N } else { 0 } {
                    prefetch(to[r].wrapping_add(v * V::LANES));
                }
            }
            let mut b = b.as_ptr();
            for j in 0..columns.count() {
                let column = columns.at(j);
                let mut b_vectors = [zero; N];
                for v in 0..N {
                    b_vectors[v] = V::load(b.add(v * V::LANES));
                }
                b = b.wrapping_add(b_row);
                for r in 0..R {
                    let x = x_rows[r].add(column);
                    if DEPTHWISE {
                        for v in 0..N {
                            sums[r][v] = V::load(x.add(v * V::LANES)).mul_add(b_vectors[v], sums[r][v]);
                        }
                    } else {
                        let x = V::splat(*x);
                        for v in 0..N {
                            sums[r][v] = x.mul_add(b_vectors[v], sums[r][v]);
                        }
                    }
                }
            }
            for r in 0..R {
                let from = start.map_or(to[r].cast_const(), <[T]>::as_ptr);
                for v in 0..N {
                    let (from, to) = (from.add(v * V::LANES), to[r].add(v * V::LANES));
                    if v < N - 1 || rest == V::LANES {
                        one.mul_add(V::load(from), sums[r][v]).store(to);
                    } else {
                        one.mul_add(V::load_part(from, rest), sums[r][v]).store_part(to, rest);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    /// With each instruction set of this machine, all widths, and numbers of rows that end anywhere in a tile; in small
    /// integers, which are exact in every order.
    fn check<T: Vectors + std::fmt::Debug>() {
        struct Vectors;
        impl<T> VectorKernel<T> for Vectors {
            type Output = (usize, usize);

            #[inline(always)]
            unsafe fn run<V: Vector<Element = T>>(self) -> Self::Output {
                (V::LANES, V::REGISTERS)
            }
        }
        let number = |at: usize| T::of(((at * 37 + 11) % 23) as f64 - 11.);
        let x: Vec<T> = (0..1000).map(number).collect();
        let columns = [3, 0, 40, 17, 111];
        for level in Isa::available() {
            let (lanes, registers) = T::dispatch_on(level, Vectors);
            for depthwise in [false, true] {
                for width in 1..=lanes * max_vectors(registers, depthwise) {
                    let b_row = width.next_multiple_of(lanes);
                    let b: Vec<T> = (0..columns.len() * b_row).map(number).collect();
                    for len in [0, 1, 2, 3, 5, 7, 9, 11, 12, 13, 23, 31] {
                        let rows: Vec<usize> = (0..len).map(|i| i * 53 % 200).collect();
                        let targets: Vec<usize> = (0..len).map(|i| (len - 1 - i) * (width + 2)).collect();
                        let bias: Vec<T> = (0..width).map(number).collect();
                        let mut c: Vec<T> = (0..len * (width + 2)).map(number).collect();
                        let mut wanted = c.clone();
                        for start in [Some(bias.as_slice()), None] {
                            for (i, &row) in rows.iter().enumerate() {
                                for o in 0..width {
                                    let at = targets[i] + o;
                                    let begin = start.map_or(wanted[at], |start| start[o]);
                                    let x_at = |column| x[row + column + if depthwise { o } else { 0 }];
                                    let terms = columns
                                        .iter()
                                        .enumerate()
                                        .map(|(j, &column)| x_at(column) * b[j * b_row + o]);
                                    wanted[at] = terms.fold(begin, |sum, term| sum + term);
                                }
                            }
                            let (rows, targets) = (&rows[..], &targets[..]);
                            let (columns, x, b) = (&columns[..], &x, &b);
                            let product =
                                Product { x, rows, columns, b, b_row, targets, width, start, depthwise };
                            product.check();
                            // SAFETY: all rows are inside of the arrays, as `check` asserts.
                            T::dispatch_on(level, unsafe { Write::new(product, c.as_mut_ptr()) });
                            assert_eq!(c, wanted, "{level:?} {depthwise} {width} {len}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn products_of_all_sizes() {
        check::<f32>();
        check::<f64>();
    }
}
