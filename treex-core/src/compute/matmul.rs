//! Products of matrices, into memory that is there.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::error::{Error, Result};

/// A matrix in memory: element `(i, j)` is at `i * row + j * column`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    elements: &'a [T],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `[rows, columns]`, row-major without gaps.
    ///
    /// # Errors
    /// If `elements` has another number of elements.
    pub fn new(elements: &'a [T], rows: usize, columns: usize) -> Result<Self> {
        Self::strided(elements, [rows, columns], [columns, 1])
    }

    /// With its own distances between rows and between columns.
    ///
    /// # Errors
    /// If an element would lie outside of `elements`.
    pub fn strided(
        elements: &'a [T],
        [rows, columns]: [usize; 2],
        [row, column]: [usize; 2],
    ) -> Result<Self> {
        check(elements.len(), [rows, columns], [row, column])?;
        Ok(Self { elements, rows, columns, row, column })
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        let Self { elements, rows, columns, row, column } = self;
        Self { elements, rows: columns, columns: rows, row: column, column: row }
    }
}

impl<'a, T> Matrix<'a, T> {
    /// The rows from `first` to before `last`, which are rows of it.
    fn rows(self, first: usize, last: usize) -> Self {
        let elements = self.elements.get(first * self.row..).unwrap_or_default();
        Self { elements, rows: last - first, ..self }
    }

    /// The columns from `first` to before `last`, which are columns of it.
    fn columns(self, first: usize, last: usize) -> Self {
        self.t().rows(first, last).t()
    }
}

/// Whether every element is inside.
fn check(len: usize, [rows, columns]: [usize; 2], [row, column]: [usize; 2]) -> Result<()> {
    let last = || {
        let last = (rows - 1).checked_mul(row)?.checked_add((columns - 1).checked_mul(column)?)?;
        isize::try_from(last).is_ok().then_some(last)
    };
    if rows == 0 || columns == 0 || last().is_some_and(|last| last < len) {
        return Ok(());
    }
    Err(Error::shape("a matrix is larger than its memory")
        .expected(format!("[{rows}, {columns}] with strides [{row}, {column}]"))
        .found(format!("{len} elements")))
}

/// The element types of these products.
pub trait Multiply: Copy + Send + Sync + 'static {
    /// 1.
    const ONE: Self;
}

impl Multiply for f32 {
    const ONE: Self = 1.;
}

impl Multiply for f64 {
    const ONE: Self = 1.;
}

/// Fewer multiplications than this are not worth waking other threads.
const PARALLEL: usize = 1 << 18;

/// `c = a · b`, where `c` is `[rows of a, columns of b]` with the distance `row` between its rows. On all cores
/// if it is large and `parallel`.
///
/// # Errors
/// If the sizes do not fit.
pub fn multiply<T: Multiply>(
    c: &mut [MaybeUninit<T>],
    row: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    parallel: bool,
) -> Result<()> {
    // SAFETY: `MaybeUninit<T>` has the layout of `T`, and nothing is read of it without `accumulate`.
    unsafe { gemm(c.as_mut_ptr().cast(), c.len(), row, a, b, None, parallel) }
}

/// `a · b` in new memory, row-major.
///
/// # Errors
/// If the sizes do not fit.
pub fn product<T: Multiply>(a: Matrix<'_, T>, b: Matrix<'_, T>, parallel: bool) -> Result<Vec<T>> {
    let mut c = Box::new_uninit_slice(a.rows * b.columns);
    multiply(&mut c, b.columns, a, b, parallel)?;
    // SAFETY: without gaps between rows, every element was written.
    Ok(unsafe { c.assume_init() }.into_vec())
}

/// `c += scale · a · b`; see [`multiply`].
///
/// # Errors
/// If the sizes do not fit.
pub fn multiply_add<T: Multiply>(
    c: &mut [T],
    row: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    scale: T,
    parallel: bool,
) -> Result<()> {
    // SAFETY: the elements of `c` are there.
    unsafe { gemm(c.as_mut_ptr(), c.len(), row, a, b, Some(scale), parallel) }
}

/// # Safety
/// `c` points to `len` elements that nobody else uses, which are values if `accumulate` is there.
unsafe fn gemm<T: Multiply>(
    c: *mut T,
    len: usize,
    row: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    accumulate: Option<T>,
    parallel: bool,
) -> Result<()> {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if k != b.rows {
        return Err(Error::shape("the sizes of two matrices do not fit")
            .expected(format!("[{m}, {k}] by [{k}, ..]"))
            .found(format!("[{m}, {k}] by [{}, {n}]", b.rows)));
    }
    check(len, [m, n], [row, 1])?;
    let threads = rayon::current_num_threads();
    let is_large = m.saturating_mul(n).saturating_mul(k) >= PARALLEL;
    if !parallel || !is_large || threads == 1 {
        // SAFETY: every element that sizes and strides reach is inside of its memory, as was checked here and when the
        // matrices were made; `c` is exclusive, so it does not overlap them.
        unsafe { part(c, row, a, b, accumulate) };
        return Ok(());
    }
    // Each thread has a range of the longer side, so that the smaller operand is what all of them pack.
    let c = Shared(c);
    let (side, unit) = (m.max(n), 48);
    let size = side.div_ceil(threads).next_multiple_of(unit);
    (0..side.div_ceil(size)).into_par_iter().for_each(|index| {
        let (first, last) = (index * size, ((index + 1) * size).min(side));
        // SAFETY: as above, and the ranges do not overlap.
        unsafe {
            if n >= m {
                part(c.at(first), row, a, b.columns(first, last), accumulate);
            } else {
                part(c.at(first * row), row, a.rows(first, last), b, accumulate);
            }
        }
    });
    Ok(())
}

/// Memory of which each thread writes its own part.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: whoever makes one sees to it that the parts do not overlap.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    /// There are more than `offset` elements.
    unsafe fn at(&self, offset: usize) -> *mut T {
        // SAFETY: as the caller promises.
        unsafe { self.0.add(offset) }
    }
}

/// The product on this thread.
///
/// # Safety
/// Sizes fit, all elements that sizes and strides reach are inside of their memory, and nobody else uses those of
/// `c`, which are values if `accumulate` is there.
unsafe fn part<T: Multiply>(
    c: *mut T,
    row: usize,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    accumulate: Option<T>,
) {
    // SAFETY: as the caller promises.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            c,
            1,
            row as isize,
            accumulate.is_some(),
            a.elements.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.elements.as_ptr(),
            b.column as isize,
            b.row as isize,
            T::ONE,
            accumulate.unwrap_or(T::ONE),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a · b` one product after the other.
    fn slowly(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
        let at = |i: usize, j: usize| (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
        (0..m * n).map(|at_index| at(at_index / n, at_index % n)).collect()
    }

    fn numbers(len: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * 37 + 11) % 23) as f64 - 11.).collect()
    }

    #[test]
    fn products_of_all_sizes_and_strides() -> Result<()> {
        for [m, k, n] in [[3, 4, 5], [1, 1, 1], [0, 3, 2], [2, 0, 3], [70, 65, 90]] {
            let (a, b) = (numbers(m * k), numbers(k * n));
            let wanted = slowly(&a, &b, [m, k, n]);
            let transposed: Vec<f64> = (0..k * m).map(|at| a[at % m.max(1) * k + at / m.max(1)]).collect();
            for parallel in [false, true] {
                for a in [Matrix::new(&a, m, k)?, Matrix::new(&transposed, k, m)?.t()] {
                    // Between the rows of the result stays what was there.
                    let row = n + 3;
                    let mut c = vec![MaybeUninit::new(7.); m * row];
                    multiply(&mut c, row, a, Matrix::new(&b, k, n)?, parallel)?;
                    // SAFETY: all of it had a value before.
                    let mut c: Vec<f64> = c.into_iter().map(|x| unsafe { x.assume_init() }).collect();
                    multiply_add(&mut c, row, a, Matrix::new(&b, k, n)?, -3., parallel)?;
                    for (i, found) in c.chunks(row).enumerate() {
                        let wanted = &wanted[i * n..(i + 1) * n];
                        assert!(found[..n].iter().zip(wanted).all(|(found, wanted)| *found == -2. * wanted));
                        assert_eq!(found[n..], [7.; 3]);
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(Matrix::new(&[0f32; 5], 2, 3).is_err());
        assert!(Matrix::strided(&[0f32; 5], [2, 3], [usize::MAX, 1]).is_err());
        let (a, b) = (Matrix::new(&[0f32; 6], 2, 3).unwrap(), Matrix::new(&[0f32; 6], 2, 3).unwrap());
        let error = multiply_add(&mut [0.; 4], 2, a, b, 1., false).unwrap_err().to_string();
        assert!(error.contains("expected [2, 3] by [3, ..], found [2, 3] by [2, 3]"), "{error}");
        assert!(multiply_add(&mut [0.; 3], 2, a, b.t(), 1., false).is_err());
    }
}
