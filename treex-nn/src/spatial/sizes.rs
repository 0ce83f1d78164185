//! A number for each spatial dimension.

use treex_core::{Error, Result};

/// One number for each spatial dimension, or one for all: what `strides(2)` and `strides([2, 1])` take.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sizes {
    /// The same for all dimensions.
    All(usize),
    /// One for each dimension.
    Each(Vec<usize>),
}

impl From<usize> for Sizes {
    fn from(size: usize) -> Self {
        Self::All(size)
    }
}

impl<const N: usize> From<[usize; N]> for Sizes {
    fn from(sizes: [usize; N]) -> Self {
        Self::Each(sizes.to_vec())
    }
}

impl From<Vec<usize>> for Sizes {
    fn from(sizes: Vec<usize>) -> Self {
        Self::Each(sizes)
    }
}

/// Above this, products of sizes might overflow.
pub(crate) const LARGEST: usize = 1 << 31;

impl Sizes {
    /// The numbers for `rank` dimensions, all at least 1 and at most [`LARGEST`].
    pub(crate) fn each(&self, layer: &str, what: &str, rank: usize) -> Result<Vec<usize>> {
        let sizes = match self {
            Self::All(size) => vec![*size; rank],
            Self::Each(sizes) => sizes.clone(),
        };
        if sizes.len() == rank && sizes.iter().all(|size| (1..=LARGEST).contains(size)) {
            return Ok(sizes);
        }
        Err(Error::argument(format!("`{layer}` has `{what}` that do not fit"))
            .expected(format!("a number above 0 and at most {LARGEST} for each of {rank} spatial dimensions"))
            .found(format!("{sizes:?}")))
    }
}
