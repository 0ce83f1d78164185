//! Clipping of each leaf.

use treex_core::{Leaves, Result};

use crate::engine::{Factor, Number, Squares, Updates};
use crate::numerics::{check_positive, sizes};
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
        let clip = |index: usize| Clip { size: sizes[index], threshold: self.threshold };
        Ok(updates.scale_each_by_sums(Squares, clip))
    }
}

struct Clip {
    size: f64,
    threshold: f64,
}

impl Factor<1> for Clip {
    fn factor<N: Number>(&self, [squares]: [N; 1]) -> N {
        let rms = (squares / self.size).sqrt();
        N::constant(1.) / (rms / self.threshold).at_least(1.)
    }
}
