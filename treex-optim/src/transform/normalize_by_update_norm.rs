//! Normalized updates.

use treex_core::{Leaves, Result};

use crate::engine::{Factor, Number, Squares, Updates};
use crate::numerics::{check_finite, check_not_negative};
use crate::transformation::Stateless;

/// See [`normalize_by_update_norm`].
#[derive(Clone, Debug, PartialEq)]
pub struct NormalizeByUpdateNorm {
    scale_factor: f64,
    eps: f64,
}

/// `u = g * scale_factor / (global_norm(g) + eps)`, with `scale_factor = 1` and `eps = 1e-6`: the
/// global norm becomes `scale_factor`.
#[must_use]
pub fn normalize_by_update_norm() -> NormalizeByUpdateNorm {
    NormalizeByUpdateNorm { scale_factor: 1., eps: 1e-6 }
}

builder!(NormalizeByUpdateNorm {
    /// The global norm of the updates.
    scale_factor: f64,
    /// Added to the norm.
    eps: f64,
});

impl Stateless for NormalizeByUpdateNorm {
    fn check(&self, _: &Leaves) -> Result<()> {
        check_finite("scale_factor", self.scale_factor)?;
        check_not_negative("eps", self.eps)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        Ok(updates.scale_by_sums(Squares, self.clone()))
    }
}

impl Factor<1> for NormalizeByUpdateNorm {
    fn factor<N: Number>(&self, [squares]: [N; 1]) -> N {
        N::constant(self.scale_factor) / (squares.sqrt() + self.eps)
    }
}
