//! Long short-term memory.
//!
//! `i`, `f` and `o` are gates of sigmoids and `g` is one of tanh, `c = f c + i g`, `h = o tanh(c)`.

use super::cell::Cell;
use crate::math::Real;

/// Gates `i` (input), `f` (forget), `g` (candidate), `o` (output); carry `c`, `h`.
#[derive(Clone, Copy, Debug)]
pub struct Lstm;

impl Cell<4, 2> for Lstm {
    const NAME: &'static str = "lstm";

    #[inline(always)]
    fn forward<R: Real>(self, [i, f, g, o]: [R; 4], [c, _]: [R; 2]) -> ([R; 4], [R; 2]) {
        let (i, f, g, o) = (i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid());
        let c = f * c + i * g;
        ([i, f, g, o], [c, o * c.tanh()])
    }

    #[inline(always)]
    fn backward<R: Real>(self, [i, f, g, o]: [R; 4], [c, _]: [R; 2], [dc, dh]: [R; 2]) -> ([R; 4], [R; 2]) {
        let one = R::of(1.);
        let t = (f * c + i * g).tanh();
        let dc = dc + dh * o * (one - t * t);
        let di = dc * g * i * (one - i);
        let df = dc * c * f * (one - f);
        let dg = dc * i * (one - g * g);
        let d_o = dh * t * o * (one - o);
        ([di, df, dg, d_o], [dc * f, R::of(0.)])
    }
}
