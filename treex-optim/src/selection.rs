//! A stored filter.

use std::fmt;
use std::sync::Arc;

use treex_core::{Error, Filter, LeafRef, Leaves, Result, nearest_paths};

/// What one of some type-erased filters selects, or the complement. Prints as it was written.
#[derive(Clone)]
pub(crate) struct Selection {
    parts: Vec<Part>,
    complement: bool,
}

#[derive(Clone)]
struct Part {
    filter: Arc<dyn Filter + Send + Sync>,
    /// Whether it is an error if the filter selects nothing.
    required: bool,
}

impl Selection {
    /// A filter of the user, which must select something.
    pub(crate) fn new(filter: impl Filter + Send + Sync + 'static) -> Self {
        Self { parts: vec![Part { filter: Arc::new(filter), required: true }], complement: false }
    }

    /// A default, which may have nothing to select in a model.
    pub(crate) fn optional(filter: impl Filter + Send + Sync + 'static) -> Self {
        Self { parts: vec![Part { filter: Arc::new(filter), required: false }], complement: false }
    }

    /// What `filter` of the user selects, too.
    pub(crate) fn or(mut self, filter: impl Filter + Send + Sync + 'static) -> Self {
        self.parts.push(Part { filter: Arc::new(filter), required: true });
        self
    }

    /// The leaves that this does not select.
    pub(crate) fn complement(self) -> Self {
        Self { complement: !self.complement, ..self }
    }

    /// An error if a filter, as it was written, selects no leaf that is trained; `what` is what would do
    /// nothing then. Frozen leaves count, since they may be trained later. Without leaves there is nothing to
    /// check.
    pub(crate) fn check(&self, params: &Leaves, what: &str) -> Result<()> {
        let count = candidates(params).count();
        let selects_none = |part: &&Part| !candidates(params).any(|leaf| part.filter.selects(&leaf));
        let mut required = self.parts.iter().filter(|part| part.required && count > 0);
        let Some(part) = required.find(selects_none) else { return Ok(()) };
        let written = Self { parts: vec![part.clone()], complement: false };
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
        self.parts.iter().any(|part| part.filter.selects(leaf)) != self.complement
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.complement { "!(" } else { "" })?;
        for (index, part) in self.parts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " | " })?;
            part.filter.describe(f)?;
        }
        f.write_str(if self.complement { ")" } else { "" })
    }
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}
