//! How the threads of a launch share the rows of matrices, where each column has a sum of its own.

use super::GROUP_SIZE;

/// Matrices `[rows, columns]`, whose rows are divided into pieces of one group each for 32 columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pieces {
    pub(super) matrices: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Columns of a group.
    lanes: usize,
    /// Rows of a piece.
    pub(super) piece_rows: usize,
    /// Pieces of a matrix.
    pub(super) pieces: usize,
}

/// Columns of a group, at most.
const MOST_LANES: usize = 32;

/// Rows of a thread, at least, in a launch that sums them.
const SUMMED: usize = 16;

/// The most pieces of sums, so that a second launch adds them.
pub(super) const MOST_PIECES: usize = 256;

/// Rows of a thread in a launch that writes each element.
const MAPPED: usize = 4;

impl Pieces {
    /// For the sums of each column of each piece.
    pub(super) fn of_sums(matrices: usize, rows: usize, columns: usize) -> Self {
        let at_once = GROUP_SIZE / Self::lanes(columns);
        Self::new([matrices, rows, columns], (SUMMED * at_once).max(rows.div_ceil(MOST_PIECES)))
    }

    /// For a value of each element.
    pub(super) fn of_elements(matrices: usize, rows: usize, columns: usize) -> Self {
        let at_once = GROUP_SIZE / Self::lanes(columns);
        Self::new([matrices, rows, columns], MAPPED * at_once)
    }

    /// For the sums of whole columns.
    pub(super) fn whole(matrices: usize, rows: usize, columns: usize) -> Self {
        Self::new([matrices, rows, columns], rows)
    }

    fn new([matrices, rows, columns]: [usize; 3], piece_rows: usize) -> Self {
        let piece_rows = piece_rows.max(1);
        let pieces = rows.div_ceil(piece_rows);
        Self { matrices, rows, columns, lanes: Self::lanes(columns), piece_rows, pieces }
    }

    fn lanes(columns: usize) -> usize {
        columns.next_power_of_two().min(MOST_LANES)
    }

    /// The groups of a launch.
    pub(super) fn groups(&self) -> usize {
        self.matrices.saturating_mul(self.pieces).saturating_mul(self.columns.div_ceil(self.lanes))
    }

    /// What the text of a kernel leaves open.
    pub(super) fn define(&self) -> (&'static str, usize) {
        ("COLUMNS", self.lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_rows() {
        for (rows, columns) in [(1, 1), (16, 3), (129, 32), (1000, 33), (100_000, 5), (1 << 40, 7)] {
            let parts = [Pieces::of_sums, Pieces::of_elements, Pieces::whole].map(|of| of(2, rows, columns));
            for parts in parts {
                assert!(
                    parts.pieces * parts.piece_rows >= rows && (parts.pieces - 1) * parts.piece_rows < rows
                );
            }
            assert!(parts[0].pieces <= MOST_PIECES && parts[2].pieces == 1);
        }
        let sums = Pieces::of_sums(2, 1000, 33);
        assert_eq!((sums.lanes, sums.piece_rows, sums.pieces, sums.groups()), (32, 128, 8, 32));
        assert_eq!(Pieces::of_elements(1, 1000, 3).piece_rows, 256);
    }
}
