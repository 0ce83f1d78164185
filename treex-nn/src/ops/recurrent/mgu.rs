//! The minimal gated unit, with its gate also before the carry and without.

use treex_kernels::math::Real;

use super::cell::Cell;

/// The sum `m` of the carry alone, gate `f` and sum `n`; carry `h`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mgu;

impl Cell<3, 1> for Mgu {
    const NAME: &'static str = "mgu";
    const FROM_INPUT: usize = 1;
    const FROM_CARRY: usize = 2;

    #[inline(always)]
    fn forward<R: Real>(self, [m, f, n]: [R; 3], [h]: [R; 1]) -> ([R; 3], [R; 1]) {
        let f = f.sigmoid();
        let n = (n + f * m).tanh();
        ([m, f, n], [(R::of(1.) - f) * n + f * h])
    }

    #[inline(always)]
    fn backward<R: Real>(self, [m, f, n]: [R; 3], [h]: [R; 1], [dh]: [R; 1]) -> ([R; 3], [R; 1]) {
        let one = R::of(1.);
        let dn = dh * (one - f) * (one - n * n);
        let df = (dh * (h - n) + dn * m) * f * (one - f);
        ([dn * f, df, dn], [dh * f])
    }
}

/// Gate `f` and sum `n`; carry `h`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MguWithoutReset;

impl Cell<2, 1> for MguWithoutReset {
    const NAME: &'static str = "mgu";

    #[inline(always)]
    fn forward<R: Real>(self, [f, n]: [R; 2], [h]: [R; 1]) -> ([R; 2], [R; 1]) {
        let (f, n) = (f.sigmoid(), n.tanh());
        ([f, n], [(R::of(1.) - f) * n + f * h])
    }

    #[inline(always)]
    fn backward<R: Real>(self, [f, n]: [R; 2], [h]: [R; 1], [dh]: [R; 1]) -> ([R; 2], [R; 1]) {
        let one = R::of(1.);
        let dn = dh * (one - f) * (one - n * n);
        let df = dh * (h - n) * f * (one - f);
        ([df, dn], [dh * f])
    }
}
