//! The simple recurrent cell.
//!
//! `h = tanh(a)`, or with a residual connection `h = tanh(a + h)`, of the pre-activation `a`.

use super::cell::{Cell, of_tanh};
use crate::number::Number;

/// One gate; carry `h`.
#[derive(Clone, Copy, Debug)]
pub struct Simple {
    /// Whether the carry is added to the pre-activation.
    pub residual: bool,
}

impl Cell<1, 1> for Simple {
    const NAME: &'static str = "simple_cell";

    #[inline(always)]
    fn forward<N: Number>(self, [a]: [N; 1], [h]: [N; 1]) -> ([N; 1], [N; 1]) {
        let y = (if self.residual { a + h } else { a }).tanh();
        ([y.clone()], [y])
    }

    #[inline(always)]
    fn backward<N: Number>(self, [y]: [N; 1], _: [N; 1], [dh]: [N; 1]) -> ([N; 1], [N; 1]) {
        let da = dh * of_tanh(y);
        ([da.clone()], [if self.residual { da } else { N::constant(0.) }])
    }
}
