//! Updates in proportion to the parameters of their leaf.

use treex_core::{Leaves, Result};

use crate::engine::{Factor, Number, Terms, Updates};
use crate::numerics::check_not_negative;
use crate::transformation::Stateless;

/// See [`scale_by_param_block_norm`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByParamBlockNorm {
    min_scale: f64,
}

/// `u = g * max(norm(p), min_scale)`, with the Euclidean norm of each leaf and `min_scale = 1e-3`.
#[must_use]
pub fn scale_by_param_block_norm() -> ScaleByParamBlockNorm {
    ScaleByParamBlockNorm { min_scale: 1e-3 }
}

builder!(ScaleByParamBlockNorm {
    /// The smallest norm of a leaf, so that zeros can be trained.
    min_scale: f64,
});

impl Stateless for ScaleByParamBlockNorm {
    fn check(&self, _: &Leaves) -> Result<()> {
        check_not_negative("min_scale", self.min_scale)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        Ok(updates.scale_each_by_sums(ParamSquares, |_| self.clone()))
    }
}

/// The squares of the parameters.
pub(crate) struct ParamSquares;

impl Terms<1> for ParamSquares {
    #[inline(always)]
    fn terms<N: Number>(&self, _: N, p: N) -> [N; 1] {
        [p.sqr()]
    }
}

impl Factor<1> for ScaleByParamBlockNorm {
    fn factor<N: Number>(&self, [squares]: [N; 1]) -> N {
        squares.sqrt().at_least(self.min_scale)
    }
}
