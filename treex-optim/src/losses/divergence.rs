//! Divergences between distributions.

use candle_core::Tensor;
use treex_core::Result;

use super::{Over, aligned};

/// `sum(targets * (log(targets) - log_predictions))`, in which `0 * log(0)` is 0, over the last axis:
/// `[.., n]`, `[.., n]` to `[..]`. The predictions are logarithms of probabilities, the targets are
/// probabilities.
///
/// # Errors
/// If shapes or element types differ, or are not floats.
pub fn kl_divergence(log_predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    kl_divergence_with(log_predictions, targets, &Over::default())
}

/// [`kl_divergence`] over other axes than the last, or over some of the elements.
///
/// # Errors
/// As `kl_divergence`, and if the axes or the mask do not fit.
pub fn kl_divergence_with(log_predictions: &Tensor, targets: &Tensor, over: &Over<'_>) -> Result<Tensor> {
    let (logs, targets) =
        aligned("kl_divergence", ("log predictions", log_predictions), ("targets", targets))?;
    let rows = over.of("kl_divergence", &logs)?;
    rows.sum(&divergences(&rows.arrange(&logs)?, &rows.arrange(&targets)?)?)
}

/// `sum(exp(log_targets) * (log_targets - log_predictions))` over the last axis: `[.., n]`, `[.., n]` to
/// `[..]`, for targets that are logarithms of probabilities too.
///
/// # Errors
/// As [`kl_divergence`].
pub fn kl_divergence_with_log_targets(log_predictions: &Tensor, log_targets: &Tensor) -> Result<Tensor> {
    kl_divergence_with_log_targets_with(log_predictions, log_targets, &Over::default())
}

/// [`kl_divergence_with_log_targets`] over other axes than the last, or over some of the elements.
///
/// # Errors
/// As [`kl_divergence_with`].
pub fn kl_divergence_with_log_targets_with(
    log_predictions: &Tensor,
    log_targets: &Tensor,
    over: &Over<'_>,
) -> Result<Tensor> {
    let name = "kl_divergence_with_log_targets";
    let (logs, log_targets) =
        aligned(name, ("log predictions", log_predictions), ("log targets", log_targets))?;
    let rows = over.of(name, &logs)?;
    let (logs, log_targets) = (rows.arrange(&logs)?, rows.arrange(&log_targets)?);
    rows.sum(&(log_targets.exp()? * (&log_targets - logs)?)?)
}

/// [`kl_divergence`] for measures whose sums are not 1: `kl_divergence + sum(exp(log_predictions) -
/// targets)`, over the last axis: `[.., n]`, `[.., n]` to `[..]`.
///
/// # Errors
/// As `kl_divergence`.
#[doc(alias = "convex_kl_divergence")]
pub fn generalized_kl_divergence(log_predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    generalized_kl_divergence_with(log_predictions, targets, &Over::default())
}

/// [`generalized_kl_divergence`] over other axes than the last, or over some of the elements.
///
/// # Errors
/// As [`kl_divergence_with`].
pub fn generalized_kl_divergence_with(
    log_predictions: &Tensor,
    targets: &Tensor,
    over: &Over<'_>,
) -> Result<Tensor> {
    let name = "generalized_kl_divergence";
    let (logs, targets) = aligned(name, ("log predictions", log_predictions), ("targets", targets))?;
    let rows = over.of(name, &logs)?;
    let (logs, targets) = (rows.arrange(&logs)?, rows.arrange(&targets)?);
    rows.sum(&(divergences(&logs, &targets)? + (logs.exp()? - targets)?)?)
}

/// `targets * (log(targets) - log_predictions)`, elementwise.
fn divergences(log_predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    // The logarithm of 1 instead of 0, whose derivative is infinite.
    let positive = targets.eq(&targets.zeros_like()?)?.where_cond(&targets.ones_like()?, targets)?;
    Ok((targets * (positive.log()? - log_predictions)?)?)
}
