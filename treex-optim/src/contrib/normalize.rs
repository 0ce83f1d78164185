//! Gradients of norm one.

use treex_core::Result;

use crate::engine::{Squares, Updates};
use crate::transform::scale::Times;
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
        updates.measure(Squares, [], |squares| Ok(Times(1. / squares.total(0).sqrt())))
    }
}
