//! How the threads of a launch share the rows of a matrix.

use candle_core::Tensor;

use super::GROUP_SIZE;
use crate::error::{Error, Result};

/// A matrix of rows, each for some threads of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rows {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Threads of a row.
    lanes: usize,
    /// Elements of a thread, at most, which it keeps in registers; 0 if these are too many.
    each: usize,
}

/// The most elements of a row that a thread keeps.
const MOST_EACH: usize = 16;

/// Threads that exchange numbers without memory.
const WARP: usize = 32;

impl Rows {
    /// Of all tensors, in rows of `columns` elements.
    pub(super) fn of(tensors: &[&Tensor], columns: usize) -> Result<Self> {
        let len = tensors.first().map_or(0, |x| x.elem_count());
        let is_whole = columns > 0 && columns <= MOST_COLUMNS && len > 0 && len.is_multiple_of(columns);
        if !is_whole || tensors.iter().any(|x| x.elem_count() != len) {
            return Err(Error::shape("tensors are not the same number of rows")
                .expected(format!("rows of {columns} elements, at least one and at most {MOST_COLUMNS}"))
                .found(format!(
                    "{:?} elements",
                    tensors.iter().map(|x| x.elem_count()).collect::<Vec<_>>()
                )));
        }
        Ok(Self::new(len / columns, columns))
    }

    /// Of so many rows, as in a launch that sums them.
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        let lanes =
            if columns <= WARP * MOST_EACH { columns.next_power_of_two().min(WARP) } else { GROUP_SIZE };
        let each = columns.div_ceil(lanes).next_power_of_two();
        Self { rows, columns, lanes, each: if each <= MOST_EACH { each } else { 0 } }
    }

    /// The groups of a launch.
    pub(super) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP_SIZE / self.lanes)
    }

    /// What the text of a kernel leaves open.
    pub(super) fn defines(&self) -> [(&'static str, usize); 2] {
        [("LANES", self.lanes), ("EACH", self.each)]
    }
}

/// What the text of a kernel leaves open where all threads of a group work together.
pub(super) fn whole_group() -> [(&'static str, usize); 2] {
    [("LANES", GROUP_SIZE), ("EACH", 0)]
}

/// The numbers of columns are `uint`, with room to count beyond the last.
pub(super) const MOST_COLUMNS: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_row() {
        for (columns, lanes, each, groups) in [
            (1, 1, 1, 4),
            (3, 4, 1, 16),
            (32, 32, 1, 125),
            (33, 32, 2, 125),
            (512, 32, 16, 125),
            (513, 256, 4, 1000),
            (4096, 256, 16, 1000),
            (4097, 256, 0, 1000),
        ] {
            let rows = Rows::new(1000, columns);
            assert_eq!((rows.lanes, rows.each, rows.groups()), (lanes, each, groups), "{columns}");
        }
    }
}
