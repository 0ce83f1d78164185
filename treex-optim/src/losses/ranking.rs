//! Ranking losses.

use candle_core::{D, Tensor};
use treex_core::Result;

use super::{Over, Reduction, labeled};

/// The options of [`ranking_softmax_loss_with`].
#[derive(Clone, Debug, Default)]
pub struct Ranking<'a> {
    mask: Option<&'a Tensor>,
    weights: Option<&'a Tensor>,
    reduction: Reduction,
}

impl<'a> Ranking<'a> {
    /// Only the items where `mask` is not 0 exist; `[.., items]`, in any element type. Optax's `where`.
    #[must_use]
    pub fn mask(self, mask: &'a Tensor) -> Self {
        Self { mask: Some(mask), ..self }
    }

    /// The weight of each item; `[.., items]`.
    #[must_use]
    pub fn weights(self, weights: &'a Tensor) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// The reduction over lists. Default: the mean. Optax's `reduce_fn`.
    #[must_use]
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }
}

/// [`ranking_softmax_loss_with`] the mean over lists, without a mask: `[.., items]`, `[.., items]` to a
/// scalar.
///
/// # Errors
/// As `ranking_softmax_loss_with`.
pub fn ranking_softmax_loss(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    ranking_softmax_loss_with(logits, labels, &Ranking::default())
}

/// `-sum(weights * labels * log_softmax(logits))` over the last axis, for labels that are relevances of any
/// size, in any element type. An empty list has loss 0 and is not part of the mean.
///
/// Cao et al., [Learning to Rank: From Pairwise Approach to Listwise
/// Approach](https://dl.acm.org/doi/10.1145/1273496.1273513), 2007.
///
/// # Errors
/// If shapes differ, or logits are not floats.
pub fn ranking_softmax_loss_with(logits: &Tensor, labels: &Tensor, options: &Ranking<'_>) -> Result<Tensor> {
    let name = "ranking_softmax_loss";
    let (logits, mut labels) = labeled(name, ("logits", logits), labels)?;
    if let Some(weights) = options.weights {
        labels = (labels * labeled(name, ("logits", &logits), weights)?.1)?;
    }
    let over = options.mask.map_or_else(Over::default, |mask| Over::default().mask(mask));
    let rows = over.of(name, &logits)?;
    let losses = rows.sum(&(labels * rows.log_softmax(&logits)?)?)?.neg()?;
    match (options.reduction, rows.counts(losses.dtype())?) {
        (Reduction::Mean, Some(counts)) => {
            let lists = counts.squeeze(D::Minus1)?.minimum(1.)?.sum_all()?;
            Ok((losses.sum_all()? / lists.maximum(1.)?)?)
        }
        (reduction, _) => reduction.reduce(&losses),
    }
}
