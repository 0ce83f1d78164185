//! What a kernel refuses.

use std::fmt;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a kernel did not run. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The allocator has no memory for so many elements.
    OutOfMemory {
        /// How many were asked for.
        elements: usize,
    },
    /// Sizes that do not fit together.
    Shape {
        /// What does not fit.
        message: &'static str,
        /// What would fit.
        expected: String,
        /// What was passed.
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
