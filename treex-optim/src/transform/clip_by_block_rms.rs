//! Clipping of each leaf.

use treex_core::{Leaves, Result};

use crate::engine::{Squares, Updates};
use crate::numerics::{at_least, check_positive, sizes};
use crate::transform::scale::Times;
use crate::transformation::Stateless;

/// See [`clip_by_block_rms`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClipByBlockRms {
    threshold: f64,
}

/// `u = g / max(1, rms(g) / threshold)`, with the root of the mean of the squares of each leaf: it becomes at
/// most `threshold`.
///
/// Shazeer and Stern, [Adafactor: adaptive learning rates with sublinear memory
/// cost](https://arxiv.org/abs/1804.04235), 2018.
#[must_use]
pub fn clip_by_block_rms(threshold: f64) -> ClipByBlockRms {
    ClipByBlockRms { threshold }
}

impl Stateless for ClipByBlockRms {
    fn check(&self, _: &Leaves) -> Result<()> {
        check_positive("threshold", self.threshold)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        let sizes = sizes(updates.params());
        updates.measure_each(Squares, [], move |squares| {
            let rms = move |index| (squares.leaf(index, 0) / sizes[index]).sqrt();
            Ok(move |index| Times(1. / at_least(rms(index) / self.threshold, 1.)))
        })
    }
}
