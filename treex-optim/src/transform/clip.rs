//! Clipping of each element.

use treex_core::{Leaves, Result};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::check_not_negative;
use crate::transformation::Stateless;

/// See [`clip`].
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    max_delta: f64,
}

/// `u = min(max(g, -max_delta), max_delta)`, elementwise. A NaN stays one. As PyTorch's
/// `clip_grad_value_`.
#[must_use]
pub fn clip(max_delta: f64) -> Clip {
    Clip { max_delta }
}

impl Stateless for Clip {
    fn check(&self, _: &Leaves) -> Result<()> {
        check_not_negative("max_delta", self.max_delta)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        updates.map(self.clone(), [])
    }
}

impl Rule<0> for Clip {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
        let (low, high) = (N::constant(-self.max_delta), N::constant(self.max_delta));
        let below = high.clone().if_less(g.clone(), high, g.clone());
        (g.if_less(low.clone(), low, below), [])
    }
}
