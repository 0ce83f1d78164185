//! The minimal gated unit, with a reset gate, which is the same gate, and without.
//!
//! `f` is a gate of a sigmoid, `n = tanh(n + f m)` or `n = tanh(n)`, `h = (1 - f) n + f h`.

use super::cell::Cell;
use crate::math::Real;

/// Gates `m` (the part of the carry in the candidate), `f` (forget), `n` (candidate); carry `h`.
#[derive(Clone, Copy, Debug)]
pub struct Mgu;

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

/// Gates `f` (forget), `n` (candidate); carry `h`.
#[derive(Clone, Copy, Debug)]
pub struct MguWithoutReset;

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
