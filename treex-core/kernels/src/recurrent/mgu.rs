//! The minimal gated unit, with a reset gate, which is the same gate, and without.
//!
//! `f` is a gate of a sigmoid, `n = tanh(n + f m)` or `n = tanh(n)`, `h = (1 - f) n + f h`.

use super::cell::{Cell, of_sigmoid, of_tanh};
use crate::number::Number;

/// Gates `m` (the part of the carry in the candidate), `f` (forget), `n` (candidate); carry `h`.
#[derive(Clone, Copy, Debug)]
pub struct Mgu;

impl Cell<3, 1> for Mgu {
    const NAME: &'static str = "mgu";
    const FROM_INPUT: usize = 1;
    const FROM_CARRY: usize = 2;

    #[inline(always)]
    fn forward<N: Number>(self, [m, f, n]: [N; 3], [h]: [N; 1]) -> ([N; 3], [N; 1]) {
        let f = f.sigmoid();
        let n = (n + f.clone() * m.clone()).tanh();
        let h = (N::constant(1.) - f.clone()) * n.clone() + f.clone() * h;
        ([m, f, n], [h])
    }

    #[inline(always)]
    fn backward<N: Number>(self, [m, f, n]: [N; 3], [h]: [N; 1], [dh]: [N; 1]) -> ([N; 3], [N; 1]) {
        let dn = dh.clone() * (N::constant(1.) - f.clone()) * of_tanh(n.clone());
        let df = (dh.clone() * (h - n) + dn.clone() * m) * of_sigmoid(f.clone());
        ([dn.clone() * f.clone(), df, dn], [dh * f])
    }
}

/// Gates `f` (forget), `n` (candidate); carry `h`.
#[derive(Clone, Copy, Debug)]
pub struct MguWithoutReset;

impl Cell<2, 1> for MguWithoutReset {
    const NAME: &'static str = "mgu";

    #[inline(always)]
    fn forward<N: Number>(self, [f, n]: [N; 2], [h]: [N; 1]) -> ([N; 2], [N; 1]) {
        let (f, n) = (f.sigmoid(), n.tanh());
        let h = (N::constant(1.) - f.clone()) * n.clone() + f.clone() * h;
        ([f, n], [h])
    }

    #[inline(always)]
    fn backward<N: Number>(self, [f, n]: [N; 2], [h]: [N; 1], [dh]: [N; 1]) -> ([N; 2], [N; 1]) {
        let dn = dh.clone() * (N::constant(1.) - f.clone()) * of_tanh(n.clone());
        let df = dh.clone() * (h - n) * of_sigmoid(f.clone());
        ([df, dn], [dh * f])
    }
}
