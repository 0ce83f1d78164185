//! What changes nothing.

use treex_core::{Leaves, Result};

use crate::engine::Updates;
use crate::transformation::{Extra, Stateless};

/// See [`identity`].
#[derive(Clone, Debug, PartialEq)]
pub struct Identity;

/// `u = g`. The same as an empty chain.
#[must_use]
pub fn identity() -> Identity {
    Identity
}

impl Stateless for Identity {
    fn transform<'a>(&'a self, updates: Updates<'a>, _: &Leaves, _: &Extra) -> Result<Updates<'a>> {
        Ok(updates)
    }
}
