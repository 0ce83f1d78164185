//! Updates times a number.

use treex_core::{Leaves, Result};

use crate::numerics;
use crate::transformation::{Extra, GradientTransformation};

/// See [`scale`].
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    step_size: f64,
}

/// `u = step_size * g`. With -1 it turns ascent into descent.
#[must_use]
pub fn scale(step_size: f64) -> Scale {
    Scale { step_size }
}

impl GradientTransformation for Scale {
    type State = ();

    fn init(&self, _params: &Leaves) -> Result<()> {
        numerics::check_finite("step_size", self.step_size)
    }

    fn update(&self, updates: Leaves, _state: &mut (), _params: &Leaves, _extra: &Extra) -> Result<Leaves> {
        numerics::scale(&updates, self.step_size)
    }
}
