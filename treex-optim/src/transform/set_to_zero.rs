//! Updates of zero.

use treex_core::Result;

use crate::engine::{Number, Rule, Updates};
use crate::step_size::StepSize;
use crate::transformation::Stateless;

/// See [`set_to_zero`].
#[derive(Clone, Debug, PartialEq)]
pub struct SetToZero;

/// `u = 0`, whatever the gradient is, a NaN included.
#[must_use]
pub fn set_to_zero() -> SetToZero {
    SetToZero
}

impl Stateless for SetToZero {
    fn effect(&self) -> StepSize {
        StepSize::dropped()
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        updates.map(Zero, [])
    }
}

/// `u = 0`.
struct Zero;

impl Rule<0> for Zero {
    #[inline(always)]
    fn apply<N: Number>(&self, _: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
        (N::constant(0.), [])
    }
}
