//! The gated recurrent unit.
//!
//! `r` and `z` are gates of sigmoids, `n = tanh(n + r m)`, `h = (1 - z) n + z h`.

use super::cell::Cell;
use crate::math::Real;

/// Gates `m` (the part of the carry in the candidate), `r` (reset), `z` (update), `n` (candidate); carry `h`.
#[derive(Clone, Copy, Debug)]
pub struct Gru;

impl Cell<4, 1> for Gru {
    const NAME: &'static str = "gru";
    const FROM_INPUT: usize = 1;
    const FROM_CARRY: usize = 3;

    #[inline(always)]
    fn forward<R: Real>(self, [m, r, z, n]: [R; 4], [h]: [R; 1]) -> ([R; 4], [R; 1]) {
        let (r, z) = (r.sigmoid(), z.sigmoid());
        let n = (n + r * m).tanh();
        ([m, r, z, n], [(R::of(1.) - z) * n + z * h])
    }

    #[inline(always)]
    fn backward<R: Real>(self, [m, r, z, n]: [R; 4], [h]: [R; 1], [dh]: [R; 1]) -> ([R; 4], [R; 1]) {
        let one = R::of(1.);
        let dn = dh * (one - z) * (one - n * n);
        let dz = dh * (h - n) * z * (one - z);
        let dr = dn * m * r * (one - r);
        ([dn * r, dr, dz, dn], [dh * z])
    }
}
