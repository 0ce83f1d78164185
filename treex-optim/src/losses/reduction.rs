//! Reductions of losses.

use candle_core::Tensor;
use treex_core::Result;

use super::check_floats;

/// The reduction of the losses of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// No reduction.
    None,
    /// Their sum.
    Sum,
    /// Their sum divided by their number, which treex in Python calls `SUM_OVER_BATCH_SIZE`.
    #[default]
    #[doc(alias = "SumOverBatchSize")]
    Mean,
}

impl Reduction {
    /// Reduces over everything.
    ///
    /// # Errors
    /// If the losses are not floats.
    pub fn reduce(self, losses: &Tensor) -> Result<Tensor> {
        check_floats("reduce", "losses", losses)?;
        Ok(match self {
            Self::None => losses.clone(),
            Self::Sum => losses.sum_all()?,
            Self::Mean => losses.mean_all()?,
        })
    }
}
