//! A stored filter.

use std::fmt;
use std::sync::Arc;

use treex_core::{Filter, LeafRef};

/// A type-erased filter. Prints as it was written.
#[derive(Clone)]
pub(crate) struct Selection(Arc<dyn Filter + Send + Sync>);

impl Selection {
    pub(crate) fn new(filter: impl Filter + Send + Sync + 'static) -> Self {
        Self(Arc::new(filter))
    }
}

impl Filter for Selection {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        self.0.selects(leaf)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f)
    }
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}
