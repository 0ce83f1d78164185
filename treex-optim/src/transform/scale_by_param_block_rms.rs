//! Updates in proportion to the parameters of their leaf.

use treex_core::{Leaves, Result};

use crate::engine::{Factor, Number, Updates};
use crate::numerics::{check_not_negative, sizes};
use crate::transform::scale_by_param_block_norm::ParamSquares;
use crate::transformation::Stateless;

/// See [`scale_by_param_block_rms`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByParamBlockRms {
    min_scale: f64,
}

/// `u = g * max(rms(p), min_scale)`, with the root of the mean of the squares of each leaf and `min_scale =
/// 1e-3`.
#[must_use]
pub fn scale_by_param_block_rms() -> ScaleByParamBlockRms {
    ScaleByParamBlockRms { min_scale: 1e-3 }
}

builder!(ScaleByParamBlockRms {
    /// The smallest root mean square of a leaf, so that zeros can be trained.
    min_scale: f64,
});

impl Stateless for ScaleByParamBlockRms {
    fn check(&self, _: &Leaves) -> Result<()> {
        check_not_negative("min_scale", self.min_scale)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        let sizes = sizes(updates.params());
        let rms = |index: usize| Rms { size: sizes[index], min_scale: self.min_scale };
        Ok(updates.scale_each_by_sums(ParamSquares, rms))
    }
}

struct Rms {
    size: f64,
    min_scale: f64,
}

impl Factor<1> for Rms {
    fn factor<N: Number>(&self, [squares]: [N; 1]) -> N {
        (squares / self.size).sqrt().at_least(self.min_scale)
    }
}
