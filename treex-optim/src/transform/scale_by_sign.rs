//! The signs of the updates.

use treex_core::Result;

use crate::engine::{Number, Rule, Updates};
use crate::transformation::Stateless;

/// See [`scale_by_sign`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleBySign;

/// `u = sign(g)`, with `sign(0) = 0`. A NaN stays one.
#[must_use]
pub fn scale_by_sign() -> ScaleBySign {
    ScaleBySign
}

impl Stateless for ScaleBySign {
    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        updates.map(Sign, [])
    }
}

/// `u = sign(g)`.
pub(crate) struct Sign;

impl Rule<0> for Sign {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
        (g.sign(), [])
    }
}
