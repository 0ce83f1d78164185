//! The identity.

use treex_core::Result;

use crate::engine::Updates;
use crate::step_size::StepSize;
use crate::transformation::Stateless;

/// See [`identity`].
#[derive(Clone, Debug, PartialEq)]
pub struct Identity;

/// `u = g`. The same as an empty chain.
#[must_use]
pub fn identity() -> Identity {
    Identity
}

impl Stateless for Identity {
    fn effect(&self) -> StepSize {
        StepSize::times(1.)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        Ok(updates)
    }
}
