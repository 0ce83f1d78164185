//! Updates times a number.

use treex_core::{Leaves, Result};

use crate::engine::{Times, Updates};
use crate::numerics;
use crate::step_size::StepSize;
use crate::transformation::Stateless;

/// See [`scale`].
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    step_size: f64,
}

/// `u = step_size * g`. With -1, ascent becomes descent.
#[must_use]
pub fn scale(step_size: f64) -> Scale {
    Scale { step_size }
}

impl Stateless for Scale {
    fn check(&self, _: &Leaves) -> Result<()> {
        numerics::check_finite("step_size", self.step_size)
    }

    fn effect(&self) -> StepSize {
        StepSize::times(self.step_size)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        updates.map(Times(self.step_size), [])
    }
}
