//! Matrices in memory.

use crate::error::{Error, Result};

/// A matrix in memory: element `(i, j)` is at `i * row + j * column`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    pub(super) elements: &'a [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `[rows, columns]`, row-major without gaps.
    ///
    /// # Errors
    /// If `elements` has another number of elements.
    pub fn new(elements: &'a [T], rows: usize, columns: usize) -> Result<Self> {
        if rows.checked_mul(columns) != Some(elements.len()) {
            let (expected, found) = (format_args!("[{rows}, {columns}]"), elements.len());
            return Err(Error::shape("a matrix has another number of elements", expected, found));
        }
        Self::strided(elements, [rows, columns], [columns, 1])
    }

    /// `[rows, columns]`, with the strides of both.
    ///
    /// # Errors
    /// If an element is out of bounds of `elements`.
    pub fn strided(
        elements: &'a [T],
        [rows, columns]: [usize; 2],
        [row, column]: [usize; 2],
    ) -> Result<Self> {
        check(elements.len(), [rows, columns], [row, column])?;
        if rows == 0 || columns == 0 {
            // Strides that lead to no element could overflow where a part of the matrix is taken.
            return Ok(Self { elements: &[], rows, columns, row: 0, column: 0 });
        }
        Ok(Self { elements, rows, columns, row, column })
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        let Self { elements, rows, columns, row, column } = self;
        Self { elements, rows: columns, columns: rows, row: column, column: row }
    }

    /// The rows `first..last`, which must exist.
    pub(super) fn rows(self, first: usize, last: usize) -> Self {
        let elements = self.elements.get(first * self.row..).unwrap_or_default();
        Self { elements, rows: last - first, ..self }
    }

    /// The columns `first..last`, which must exist.
    pub(super) fn columns(self, first: usize, last: usize) -> Self {
        self.t().rows(first, last).t()
    }
}

/// Checks that every element is in bounds.
pub(super) fn check(len: usize, [rows, columns]: [usize; 2], [row, column]: [usize; 2]) -> Result<()> {
    let last = || {
        let last = (rows - 1).checked_mul(row)?.checked_add((columns - 1).checked_mul(column)?)?;
        isize::try_from(last).is_ok().then_some(last)
    };
    if rows == 0 || columns == 0 || last().is_some_and(|last| last < len) {
        return Ok(());
    }
    Err(Error::shape(
        "a matrix is larger than its memory",
        format!("[{rows}, {columns}] with strides [{row}, {column}]"),
        format!("{len} elements"),
    ))
}
