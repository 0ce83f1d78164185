//! Sums over the leaves of a tree.

/// The result of [`Updates::measure`](super::Updates::measure): `M` sums for each leaf.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    pub(crate) width: usize,
    pub(crate) values: Vec<f64>,
}

impl Sums {
    /// The sum of term `term` over the leaf at a position; 0 without an update.
    #[must_use]
    pub fn leaf(&self, index: usize, term: usize) -> f64 {
        self.values.get(index * self.width + term).copied().unwrap_or(0.)
    }

    /// The sum of term `term` over all leaves.
    #[must_use]
    pub fn total(&self, term: usize) -> f64 {
        self.values.iter().skip(term).step_by(self.width.max(1)).sum()
    }
}
