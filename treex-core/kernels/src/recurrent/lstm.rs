//! Long short-term memory.
//!
//! `i`, `f` and `o` are gates of sigmoids and `g` is one of tanh, `c = f c + i g`, `h = o tanh(c)`.

use super::cell::{Cell, of_sigmoid, of_tanh};
use crate::number::Number;

/// Gates `i` (input), `f` (forget), `g` (candidate), `o` (output); carry `c`, `h`.
#[derive(Clone, Copy, Debug)]
pub struct Lstm;

impl Cell<4, 2> for Lstm {
    const NAME: &'static str = "lstm";

    #[inline(always)]
    fn forward<N: Number>(self, [i, f, g, o]: [N; 4], [c, _]: [N; 2]) -> ([N; 4], [N; 2]) {
        let (i, f, g, o) = (i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid());
        let c = f.clone() * c + i.clone() * g.clone();
        let h = o.clone() * c.clone().tanh();
        ([i, f, g, o], [c, h])
    }

    #[inline(always)]
    fn backward<N: Number>(self, [i, f, g, o]: [N; 4], [c, _]: [N; 2], [dc, dh]: [N; 2]) -> ([N; 4], [N; 2]) {
        let t = (f.clone() * c.clone() + i.clone() * g.clone()).tanh();
        let dc = dc + dh.clone() * o.clone() * of_tanh(t.clone());
        let di = dc.clone() * g.clone() * of_sigmoid(i.clone());
        let df = dc.clone() * c * of_sigmoid(f.clone());
        let dg = dc.clone() * i * of_tanh(g);
        let d_o = dh * t * of_sigmoid(o);
        ([di, df, dg, d_o], [dc * f, N::constant(0.)])
    }
}
