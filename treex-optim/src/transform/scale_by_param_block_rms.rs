//! Updates in proportion to the parameters of their leaf.

use treex_core::{Leaves, Result};

use crate::engine::Updates;
use crate::numerics::{at_least, check_not_negative, sizes};
use crate::transform::scale::Times;
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
        updates.measure_each(ParamSquares, [], move |squares| {
            Ok(move |index| Times(at_least((squares.leaf(index, 0) / sizes[index]).sqrt(), self.min_scale)))
        })
    }
}
