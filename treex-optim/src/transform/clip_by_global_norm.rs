//! Gradient clipping.

use treex_core::{Leaves, Result};

use crate::engine::{Factor, Number, Squares, Updates};
use crate::numerics::check_not_negative;
use crate::transformation::Stateless;

/// See [`clip_by_global_norm`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClipByGlobalNorm {
    max_norm: f64,
}

/// Shrinks all updates by one factor so that their [`global_norm`](crate::global_norm) is at most `max_norm`:
///
/// ```text
/// n = global_norm(g)
/// u = g                   if n < max_norm, or n = 0
///     g / n * max_norm    otherwise
/// ```
///
/// As in Optax there is no epsilon, and NaN propagates: a NaN makes every update NaN, an infinity becomes
/// NaN and makes everything else zero. Zeros stay zeros with a `max_norm` of 0 too, where Optax divides 0 by 0.
/// PyTorch's `clip_grad_norm_` adds 1e-6 to `n`.
#[must_use]
pub fn clip_by_global_norm(max_norm: f64) -> ClipByGlobalNorm {
    ClipByGlobalNorm { max_norm }
}

impl Stateless for ClipByGlobalNorm {
    fn check(&self, _: &Leaves) -> Result<()> {
        check_not_negative("max_norm", self.max_norm)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        Ok(updates.scale_by_sums(Squares, Clip { max_norm: self.max_norm }))
    }
}

struct Clip {
    max_norm: f64,
}

impl Factor<1> for Clip {
    fn factor<N: Number>(&self, [squares]: [N; 1]) -> N {
        let (norm, max_norm) = (squares.sqrt(), N::constant(self.max_norm));
        // 1 for a norm of 0, and NaN for NaN.
        let of_zero = norm.clone() * 0. + 1.;
        let clipped = N::constant(0.).if_less(norm.clone(), max_norm.clone() / norm.clone(), of_zero);
        norm.if_less(max_norm, N::constant(1.), clipped)
    }
}
