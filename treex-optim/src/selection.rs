//! A stored filter.

use std::fmt;
use std::sync::Arc;

use treex_core::{Error, Filter, LeafRef, Leaves, Result, nearest_paths};

/// A type-erased filter, or the complement of one. Prints as it was written.
#[derive(Clone)]
pub(crate) struct Selection {
    filter: Arc<dyn Filter + Send + Sync>,
    complement: bool,
    /// Whether it is an error if the filter selects nothing.
    required: bool,
}

impl Selection {
    /// A filter of the user, which must select something.
    pub(crate) fn new(filter: impl Filter + Send + Sync + 'static) -> Self {
        Self { filter: Arc::new(filter), complement: false, required: true }
    }

    /// A default, which may have nothing to select in a model.
    pub(crate) fn optional(filter: impl Filter + Send + Sync + 'static) -> Self {
        Self { required: false, ..Self::new(filter) }
    }

    /// The leaves that this does not select.
    pub(crate) fn complement(self) -> Self {
        Self { complement: !self.complement, ..self }
    }

    /// An error if the filter, as it was written, selects no leaf that is trained; `what` is what would do
    /// nothing then. Frozen leaves count, since they may be trained later. Without leaves there is nothing to
    /// check.
    pub(crate) fn check(&self, params: &Leaves, what: &str) -> Result<()> {
        let count = candidates(params).count();
        let written = Self { complement: false, ..self.clone() };
        if !self.required || count == 0 || candidates(params).any(|leaf| written.selects(&leaf)) {
            return Ok(());
        }
        let message = format!("{what} does nothing: `{written:?}` selects no leaf that is trained");
        Err(Error::argument(message)
            .expected("at least one leaf")
            .found(format!("none of {count}{}", nearest_paths(&written, paths(params))))
            .remedy("correct the filter, or remove it"))
    }
}

/// The leaves that are trained or may be later.
pub(crate) fn candidates(params: &Leaves) -> impl Iterator<Item = LeafRef<'_>> {
    params.iter().filter(|leaf| leaf.value().is_some() || leaf.is_frozen())
}

/// The paths of [`candidates`].
pub(crate) fn paths(params: &Leaves) -> impl Iterator<Item = String> {
    candidates(params).map(|leaf| leaf.path().to_string())
}

impl Filter for Selection {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        self.filter.selects(leaf) != self.complement
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.complement {
            return self.filter.describe(f);
        }
        f.write_str("!(")?;
        self.filter.describe(f)?;
        f.write_str(")")
    }
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}
