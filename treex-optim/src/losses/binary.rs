//! Losses over two classes, elementwise.

use candle_core::Tensor;
use treex_core::Result;
use treex_core::extrema::{clamp, maximum};

use super::math::{log_sigmoid, softplus};
use super::{aligned, labeled};
use crate::transfer::constant_like;

/// `-labels * log(sigmoid(logits)) - (1 - labels) * log(sigmoid(-logits))`, elementwise: any shape, the
/// same for both. Each element is an independent binary class; labels are in [0, 1], of any element type.
///
/// # Errors
/// If shapes differ, or logits are not floats.
#[doc(alias = "binary_logistic_loss")]
pub fn sigmoid_binary_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (logits, labels) = labeled("sigmoid_binary_cross_entropy", ("logits", logits), labels)?;
    cross_entropy(&logits, &labels)
}

fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let not_labels = labels.affine(-1., 1.)?;
    Ok(((labels * softplus(&logits.neg()?)?)? + (not_labels * softplus(logits)?)?)?)
}

/// [`sigmoid_focal_loss_with`] without `alpha` and with `gamma = 2`.
///
/// # Errors
/// As [`sigmoid_binary_cross_entropy`].
pub fn sigmoid_focal_loss(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    sigmoid_focal_loss_with(logits, labels, None, 2.)
}

/// [`sigmoid_binary_cross_entropy`] that down-weights confident correct predictions:
///
/// ```text
/// p       = sigmoid(logits)
/// missing = labels * (1 - p) + (1 - labels) * p
/// loss    = missing^gamma * cross_entropy
/// ```
///
/// times `alpha * labels + (1 - alpha) * (1 - labels)` if `alpha` is given, the weight of the positive
/// class.
///
/// Lin et al., [Focal Loss for Dense Object Detection](https://arxiv.org/abs/1708.02002), 2017.
///
/// # Errors
/// As [`sigmoid_binary_cross_entropy`].
pub fn sigmoid_focal_loss_with(
    logits: &Tensor,
    labels: &Tensor,
    alpha: Option<f64>,
    gamma: f64,
) -> Result<Tensor> {
    let (logits, labels) = labeled("sigmoid_focal_loss", ("logits", logits), labels)?;
    let not_labels = labels.affine(-1., 1.)?;
    // The logarithm of `missing`, so that its power does not underflow. A label of 0 or 1 removes one of the
    // two terms, which then must not be the maximum that is subtracted.
    let (never, zeros) = (constant_like(f64::NEG_INFINITY, &logits)?, logits.zeros_like()?);
    let log_p = not_labels.eq(&zeros)?.where_cond(&never, &log_sigmoid(&logits)?)?;
    let log_q = labels.eq(&zeros)?.where_cond(&never, &log_sigmoid(&logits.neg()?)?)?;
    let larger = log_p.maximum(&log_q)?.detach();
    let p = (&not_labels * (log_p - &larger)?.exp()?)?;
    let q = (&labels * (log_q - &larger)?.exp()?)?;
    let log_missing = ((p + q)?.log()? + larger)?;
    let loss = ((log_missing * gamma)?.exp()? * cross_entropy(&logits, &labels)?)?;
    match alpha {
        None => Ok(loss),
        Some(alpha) => Ok(((&labels * alpha)? + (not_labels * (1. - alpha))?)?.mul(&loss)?),
    }
}

/// `max(0, 1 - predictor_outputs * targets)`, elementwise, for targets that are -1 or 1.
///
/// # Errors
/// If shapes or element types differ, or are not floats.
pub fn hinge_loss(predictor_outputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (outputs, targets) =
        aligned("hinge_loss", ("predictor outputs", predictor_outputs), ("targets", targets))?;
    Ok(maximum(&(outputs * targets)?.affine(-1., 1.)?, 0.)?)
}

/// `max(0, -predictor_outputs * targets)`, elementwise, for targets that are -1 or 1.
///
/// # Errors
/// If shapes or element types differ, or are not floats.
pub fn perceptron_loss(predictor_outputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (outputs, targets) =
        aligned("perceptron_loss", ("predictor outputs", predictor_outputs), ("targets", targets))?;
    Ok(maximum(&(outputs * targets)?.neg()?, 0.)?)
}

/// `sparse_plus(-logits)` where the label is positive, else `sparse_plus(logits)`, elementwise, with
///
/// ```text
/// sparse_plus(x) = 0 for x <= -1, (x + 1)^2 / 4 up to 1, then x
/// ```
///
/// A label is positive if it is not 0, in any element type; the loss of one that is not finite is NaN. The loss is
/// 0 exactly where the logit is beyond 1 with the right sign.
///
/// Blondel et al., [Learning with Fenchel-Young Losses](https://arxiv.org/abs/1901.02324), 2020.
///
/// # Errors
/// If shapes differ, or logits are not floats.
#[doc(alias = "binary_sparsemax_loss")]
pub fn sparsemax_loss(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (logits, labels) = labeled("sparsemax_loss", ("logits", logits), labels)?;
    let x = labels.ne(&labels.zeros_like()?)?.where_cond(&logits.neg()?, &logits)?;
    // 0 or NaN.
    let x = (x + (labels * 0.)?)?;
    let bend = (clamp(&x, -1., 1.)? + 1.)?.sqr()?.affine(0.25, 0.)?;
    Ok((bend + maximum(&x, 1.)?.affine(1., -1.)?)?)
}
