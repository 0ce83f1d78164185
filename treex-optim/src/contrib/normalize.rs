//! Gradients of norm one.

use treex_core::Result;

use crate::engine::{Factor, Number, Squares, Updates};
use crate::transformation::Stateless;

/// See [`normalize`].
#[derive(Clone, Debug, PartialEq)]
pub struct Normalize;

/// `u = g / global_norm(g)`; NaN if all gradients are zero. For the ascent of [`sam`](crate::sam).
#[must_use]
pub fn normalize() -> Normalize {
    Normalize
}

impl Stateless for Normalize {
    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        Ok(updates.scale_by_sums(Squares, Normalize))
    }
}

impl Factor<1> for Normalize {
    fn factor<N: Number>(&self, [squares]: [N; 1]) -> N {
        N::constant(1.) / squares.sqrt()
    }
}
