//! Errors of kernels.

use std::fmt;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a kernel did not run. Its outputs are unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Memory cannot be allocated.
    OutOfMemory {
        /// The number of elements.
        elements: usize,
    },
    /// Sizes do not match.
    Shape {
        /// Which sizes.
        message: &'static str,
        /// The expected sizes.
        expected: String,
        /// The sizes found.
        found: String,
    },
}

impl Error {
    pub(crate) fn shape(
        message: &'static str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        Self::Shape { message, expected: expected.to_string(), found: found.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory { elements } => write!(f, "out of memory: {elements} elements"),
            Self::Shape { message, expected, found } => {
                write!(f, "{message}: expected {expected}, found {found}")
            }
        }
    }
}

impl std::error::Error for Error {}
