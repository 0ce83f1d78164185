//! Gradient centralization.

use candle_core::Tensor;
use treex_core::{Error, Leaves, Result};

use crate::engine::Updates;
use crate::numerics::each_update;
use crate::step_size::StepSize;
use crate::transformation::Stateless;

/// See [`centralize`].
#[derive(Clone, Debug, PartialEq)]
pub struct Centralize {
    output_axis: isize,
}

/// Subtracts from the gradient of each unit its mean: `u = g - mean(g)`, the mean being over all axes but
/// `output_axis`, the last by default. Leaves with fewer than two dimensions are unchanged.
///
/// A unit is the weights of one output, and Flax's kernels have their outputs last. Optax takes the mean
/// over all axes but the first, which suits PyTorch's kernels and not Flax's; `output_axis(0)` does the
/// same.
///
/// Yong et al., [Gradient centralization: a new optimization technique for deep neural
/// networks](https://arxiv.org/abs/2004.01461), 2020.
#[must_use]
pub fn centralize() -> Centralize {
    Centralize { output_axis: -1 }
}

builder!(Centralize {
    /// The axis of the units; a negative one counts from the end.
    output_axis: isize,
});

impl Stateless for Centralize {
    fn check(&self, params: &Leaves) -> Result<()> {
        for (index, param) in params.iter().enumerate() {
            let rank = params.get(index).map_or(0, Tensor::rank);
            self.reduced(rank).map_err(|error| error.at(param.segments()))?;
        }
        Ok(())
    }

    fn effect(&self) -> StepSize {
        StepSize::times(1.)
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        Ok(updates.each_step(|updates, _| {
            each_update(&updates, |_, g| {
                let axes = self.reduced(g.rank())?;
                if axes.is_empty() {
                    return Ok(g.clone());
                }
                Ok(g.broadcast_sub(&g.mean_keepdim(axes)?)?)
            })
        }))
    }
}

impl Centralize {
    /// The axes of the mean; none for a leaf that is unchanged.
    fn reduced(&self, rank: usize) -> Result<Vec<usize>> {
        if rank < 2 {
            return Ok(Vec::new());
        }
        let from_end = if self.output_axis < 0 { rank } else { 0 };
        match from_end.checked_add_signed(self.output_axis) {
            Some(kept) if kept < rank => Ok((0..rank).filter(|&axis| axis != kept).collect()),
            _ => Err(Error::argument("`output_axis` is none of a parameter")
                .expected(format!("an axis of {rank}"))
                .found(self.output_axis)),
        }
    }
}
