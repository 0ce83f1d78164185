//! Boundaries and scales.

use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::{Error, Result};

/// Pairs of a step and a factor, in the order of the steps. Of two factors for one step the later is kept, as
/// in Optax's dictionaries.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, f64)>")]
pub(super) struct Scales(Vec<(u64, f64)>);

impl Scales {
    pub(super) fn new(pairs: impl IntoIterator<Item = (u64, f64)>) -> Self {
        let sorted: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
        Self(sorted.into_iter().collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, f64)> {
        self.0.iter().copied()
    }

    /// An error if a factor is negative or not finite; `curve` is for the error.
    pub(super) fn check(&self, curve: &impl fmt::Debug) -> Result<()> {
        match self.iter().find(|&(_, scale)| !(scale.is_finite() && scale >= 0.)) {
            None => Ok(()),
            Some((boundary, scale)) => Err(Error::argument(format!(
                "`{curve:?}` has a factor out of range at step {boundary} on"
            ))
            .expected("a finite number, at least 0")
            .found(scale)
            .remedy(
                "a factor multiplies the value so far; give the quotient of the values, not a difference",
            )),
        }
    }
}

impl From<Vec<(u64, f64)>> for Scales {
    fn from(pairs: Vec<(u64, f64)>) -> Self {
        Self::new(pairs)
    }
}

impl fmt::Debug for Scales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one line even in pretty-printing.
        write!(f, "{:?}", self.0)
    }
}
