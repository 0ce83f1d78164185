//! SGDR: warm restarts.

use std::fmt;

use serde::{Deserialize, Serialize};
use treex_core::{Error, Result};

use super::{Curve, WarmupCosineDecay};

/// See [`sgdr`].
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgdr {
    cycles: Vec<WarmupCosineDecay>,
}

/// A sequence of [`warmup_cosine_decay`](super::warmup_cosine_decay)s, each for its `decay_steps`. After
/// the last cycle its last value is kept.
///
/// Loshchilov and Hutter, [SGDR](https://arxiv.org/abs/1608.03983), 2016.
///
/// ```
/// # use treex_optim::{Curve, sgdr, warmup_cosine};
/// let rate = sgdr([warmup_cosine(1.0, 2, 6), warmup_cosine(0.5, 2, 8)]);
/// assert_eq!([0, 2, 4, 6, 8, 11, 14].map(|count| rate.value(count)), [0.0, 1.0, 0.5, 0.0, 0.5, 0.25, 0.0]);
/// ```
#[must_use]
pub fn sgdr(cycles: impl IntoIterator<Item = WarmupCosineDecay>) -> Sgdr {
    Sgdr { cycles: cycles.into_iter().collect() }
}

impl Curve for Sgdr {
    /// NaN without any cycle, which [`check`](Self::check) reports.
    fn value(&self, count: u64) -> f64 {
        let mut left = count;
        for (index, cycle) in self.cycles.iter().enumerate() {
            if left < cycle.decay_steps || index + 1 == self.cycles.len() {
                return cycle.value(left);
            }
            left -= cycle.decay_steps;
        }
        f64::NAN
    }

    fn check(&self) -> Result<()> {
        if self.cycles.is_empty() {
            return Err(Error::argument("`sgdr` has no cycles").expected("at least one").found("none"));
        }
        self.cycles.iter().try_for_each(Curve::check)
    }
}

impl fmt::Debug for Sgdr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sgdr({:?})", self.cycles)
    }
}
