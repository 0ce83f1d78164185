//! Non-negative parameters.

use treex_core::Result;

use crate::engine::{Number, Rule, Updates};
use crate::transformation::Stateless;

/// See [`keep_params_nonnegative`].
#[derive(Clone, Debug, PartialEq)]
pub struct KeepParamsNonnegative;

/// Keeps parameters that start at zero or above from falling below it: `u = -p` where `p + g < 0`, elsewhere
/// `g`. It needs updates, not gradients, so put it last in a chain.
#[must_use]
pub fn keep_params_nonnegative() -> KeepParamsNonnegative {
    KeepParamsNonnegative
}

impl Stateless for KeepParamsNonnegative {
    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        updates.map(AtLeastZero, [])
    }
}

/// `u = -p` where `p + g < 0`, elsewhere `g`.
struct AtLeastZero;

impl Rule<0> for AtLeastZero {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, p: N, []: [N; 0]) -> (N, [N; 0]) {
        ((p.clone() + g.clone()).if_less(N::constant(0.), -p, g), [])
    }
}
