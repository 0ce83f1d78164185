//! The plain recurrent cell.

use treex_kernels::math::Real;

use super::cell::Cell;

/// One sum; carry `h`, which may be added to the sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simple {
    pub(crate) residual: bool,
}

impl Cell<1, 1> for Simple {
    const NAME: &'static str = "simple_cell";

    #[inline(always)]
    fn forward<R: Real>(self, [sum]: [R; 1], [h]: [R; 1]) -> ([R; 1], [R; 1]) {
        let y = (if self.residual { sum + h } else { sum }).tanh();
        ([y], [y])
    }

    #[inline(always)]
    fn backward<R: Real>(self, [y]: [R; 1], _: [R; 1], [dh]: [R; 1]) -> ([R; 1], [R; 1]) {
        let sum = dh * (R::of(1.) - y * y);
        ([sum], [if self.residual { sum } else { R::of(0.) }])
    }
}
