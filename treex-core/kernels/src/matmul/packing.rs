//! Packing: copies of matrices in the order in which a product reads them.

use super::matrix::Matrix;
use crate::math::Real;
use crate::vector::{Vector, Vectors};

/// The most lanes of a vector.
const LANES: usize = 16;

/// Copies a matrix to `to`, row-major, with rows of `row` elements: its columns, padded with zeros to whole vectors.
///
/// # Safety
/// `to` holds the rows and does not overlap the matrix, whose elements are in bounds.
#[inline(always)]
pub(super) unsafe fn pack<V: Vector>(to: *mut V::Element, row: usize, from: Matrix<'_, V::Element>) {
    let Matrix { elements, rows, columns, .. } = from;
    let elements = elements.as_ptr();
    let whole_columns = columns / V::LANES * V::LANES;
    let mut whole_rows = 0;
    // SAFETY: all indices are in bounds of one of the two.
    unsafe {
        if from.column == 1 {
            for i in 0..rows {
                let (elements, to) = (elements.add(i * from.row), to.add(i * row));
                for j in (0..whole_columns).step_by(V::LANES) {
                    V::load(elements.add(j)).store(to.add(j));
                }
                if whole_columns < columns {
                    let rest = V::load_part(elements.add(whole_columns), columns - whole_columns);
                    rest.store(to.add(whole_columns));
                }
            }
            return;
        }
        if from.row == 1 {
            whole_rows = rows / V::LANES * V::LANES;
            for j in (0..whole_columns).step_by(V::LANES) {
                for i in (0..whole_rows).step_by(V::LANES) {
                    let elements = elements.add(i + j * from.column);
                    transpose::<V>(elements, from.column, to.add(i * row + j), row);
                }
            }
        }
        for i in 0..rows {
            for j in if i < whole_rows { whole_columns } else { 0 }..columns {
                *to.add(i * row + j) = *elements.add(i * from.row + j * from.column);
            }
            for j in columns..row {
                *to.add(i * row + j) = V::Element::of(0.);
            }
        }
    }
}

/// Transposes a square block, with as many rows as a vector has lanes and the row strides `from_row` and `to_row`.
///
/// Zipping the first half of the rows with the second moves one bit of an element's row index into its column index;
/// after all bits the two are exchanged.
///
/// # Safety
/// All elements of both blocks are valid.
#[expect(
    clippy::needless_range_loop,
    reason = "the compiler makes registers of what is indexed by constants"
)]
#[inline(always)]
unsafe fn transpose<V: Vector>(from: *const V::Element, from_row: usize, to: *mut V::Element, to_row: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut block = [V::load(from); LANES];
        for lane in 1..V::LANES {
            block[lane] = V::load(from.add(lane * from_row));
        }
        let mut round = 1;
        while round < V::LANES {
            let mut next = block;
            for lane in 0..V::LANES / 2 {
                (next[2 * lane], next[2 * lane + 1]) = block[lane].zip(block[lane + V::LANES / 2]);
            }
            block = next;
            round *= 2;
        }
        for lane in 0..V::LANES {
            block[lane].store(to.add(lane * to_row));
        }
    }
}

/// Multiplies `len` elements.
///
/// # Safety
/// They are valid, and nothing else uses them.
#[inline(always)]
pub(super) unsafe fn scale<T: Vectors>(elements: *mut T, len: usize, factor: T) {
    for at in 0..len {
        // SAFETY: as the caller promises.
        unsafe { *elements.add(at) = *elements.add(at) * factor };
    }
}
