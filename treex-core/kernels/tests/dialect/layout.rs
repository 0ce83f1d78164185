//! How a launch shares rows and columns among threads: as the launches of treex-core do.

use crate::host::{Parameter, long, short};
use crate::text::{EACH, GROUP_SIZE};

/// The groups for so many elements.
pub(crate) fn groups(len: usize) -> usize {
    len.div_ceil(GROUP_SIZE * EACH)
}

/// Rows of a matrix: for some threads of a group each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    lanes: usize,
    each: usize,
}

impl Rows {
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        let lanes = if columns <= 512 { columns.next_power_of_two().min(32) } else { GROUP_SIZE };
        let each = columns.div_ceil(lanes).next_power_of_two();
        Self { rows, columns, lanes, each: if each <= 16 { each } else { 0 } }
    }

    pub(crate) fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP_SIZE / self.lanes)
    }

    pub(crate) fn defines<const N: usize>(
        &self,
        others: [(&'static str, bool); N],
    ) -> Vec<(&'static str, usize)> {
        let others = others.map(|(name, is_so)| (name, is_so.into()));
        [("LANES", self.lanes), ("EACH", self.each)].into_iter().chain(others).collect()
    }

    pub(crate) fn values(&self) -> [Parameter; 2] {
        [long(self.rows), short(self.columns)]
    }
}

/// Matrices, whose rows are divided into pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pieces {
    matrices: usize,
    rows: usize,
    columns: usize,
    lanes: usize,
    piece_rows: usize,
    pub(crate) pieces: usize,
}

impl Pieces {
    /// For the sums of each column of each piece.
    pub(crate) fn of_sums(matrices: usize, rows: usize, columns: usize) -> Self {
        Self::new([matrices, rows, columns], 16 * GROUP_SIZE / Self::lanes(columns))
    }

    /// For a value of each element.
    pub(crate) fn of_elements(matrices: usize, rows: usize, columns: usize) -> Self {
        Self::new([matrices, rows, columns], 4 * GROUP_SIZE / Self::lanes(columns))
    }

    /// For the sums of whole columns.
    pub(crate) fn whole(rows: usize, columns: usize) -> Self {
        Self::new([1, rows, columns], rows)
    }

    fn new([matrices, rows, columns]: [usize; 3], piece_rows: usize) -> Self {
        let (lanes, pieces) = (Self::lanes(columns), rows.div_ceil(piece_rows));
        Self { matrices, rows, columns, lanes, piece_rows, pieces }
    }

    fn lanes(columns: usize) -> usize {
        columns.next_power_of_two().min(32)
    }

    pub(crate) fn groups(&self) -> usize {
        self.matrices * self.pieces * self.columns.div_ceil(self.lanes)
    }

    /// The number of pieces of all matrices.
    pub(crate) fn all(&self) -> usize {
        self.matrices * self.pieces
    }

    pub(crate) fn defines<const N: usize>(
        &self,
        others: [(&'static str, bool); N],
    ) -> Vec<(&'static str, usize)> {
        let others = others.map(|(name, is_so)| (name, is_so.into()));
        [("COLUMNS", self.lanes)].into_iter().chain(others).collect()
    }

    pub(crate) fn values(&self) -> [Parameter; 4] {
        [long(self.rows), short(self.columns), long(self.piece_rows), short(self.pieces)]
    }
}
