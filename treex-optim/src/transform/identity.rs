//! What changes nothing.

use treex_core::{Leaves, Result};

use crate::engine::Updates;
use crate::transformation::{Extra, GradientTransformation};

/// See [`identity`].
#[derive(Clone, Debug, PartialEq)]
pub struct Identity;

/// `u = g`. The same as an empty chain.
#[must_use]
pub fn identity() -> Identity {
    Identity
}

impl GradientTransformation for Identity {
    type State = ();

    fn init(&self, _params: &Leaves) -> Result<()> {
        Ok(())
    }

    fn update<'a>(
        &'a self,
        updates: Updates<'a>,
        _state: &'a mut (),
        _params: &Leaves,
        _extra: &Extra,
    ) -> Result<Updates<'a>> {
        Ok(updates)
    }
}
