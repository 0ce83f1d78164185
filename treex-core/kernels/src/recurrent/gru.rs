//! The gated recurrent unit.
//!
//! `r` and `z` are gates of sigmoids, `n = tanh(n + r m)`, `h = (1 - z) n + z h`.

use super::cell::{Cell, of_sigmoid, of_tanh};
use crate::number::Number;

/// Gates `m` (the part of the carry in the candidate), `r` (reset), `z` (update), `n` (candidate); carry `h`.
#[derive(Clone, Copy, Debug)]
pub struct Gru;

impl Cell<4, 1> for Gru {
    const NAME: &'static str = "gru";
    const FROM_INPUT: usize = 1;
    const FROM_CARRY: usize = 3;

    #[inline(always)]
    fn forward<N: Number>(self, [m, r, z, n]: [N; 4], [h]: [N; 1]) -> ([N; 4], [N; 1]) {
        let (r, z) = (r.sigmoid(), z.sigmoid());
        let n = (n + r.clone() * m.clone()).tanh();
        let h = (N::constant(1.) - z.clone()) * n.clone() + z.clone() * h;
        ([m, r, z, n], [h])
    }

    #[inline(always)]
    fn backward<N: Number>(self, [m, r, z, n]: [N; 4], [h]: [N; 1], [dh]: [N; 1]) -> ([N; 4], [N; 1]) {
        let dn = dh.clone() * (N::constant(1.) - z.clone()) * of_tanh(n.clone());
        let dz = dh.clone() * (h - n) * of_sigmoid(z.clone());
        let dr = dn.clone() * m * of_sigmoid(r.clone());
        ([dn.clone() * r, dr, dz, dn], [dh * z])
    }
}
