//! The simple recurrent cell.
//!
//! `h = tanh(a)`, or with a residual connection `h = tanh(a + h)`, of the pre-activation `a`.

use super::cell::Cell;
use crate::math::Real;

/// One gate; carry `h`.
#[derive(Clone, Copy, Debug)]
pub struct Simple {
    /// Whether the carry is added to the pre-activation.
    pub residual: bool,
}

impl Cell<1, 1> for Simple {
    const NAME: &'static str = "simple_cell";

    #[inline(always)]
    fn forward<R: Real>(self, [a]: [R; 1], [h]: [R; 1]) -> ([R; 1], [R; 1]) {
        let y = (if self.residual { a + h } else { a }).tanh();
        ([y], [y])
    }

    #[inline(always)]
    fn backward<R: Real>(self, [y]: [R; 1], _: [R; 1], [dh]: [R; 1]) -> ([R; 1], [R; 1]) {
        let da = dh * (R::of(1.) - y * y);
        ([da], [if self.residual { da } else { R::of(0.) }])
    }
}
