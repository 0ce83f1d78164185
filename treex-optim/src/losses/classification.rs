//! Losses over mutually exclusive classes, as probabilities.

use candle_core::{D, Tensor};
use treex_core::Result;
use treex_core::extrema::maximum;

use super::labels::{class_numbers, of_label, without_classes};
use super::rows::Rows;
use super::{Over, aligned, check_floats, cross_entropy, widened};

/// `-sum(labels * log_softmax(logits))` over the last axis, for labels that are distributions:
/// `[.., classes]`, `[.., classes]` to `[..]`.
///
/// # Errors
/// If shapes or element types differ, are not floats, or there is no axis of classes.
pub fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    softmax_cross_entropy_with(logits, labels, &Over::default())
}

/// [`softmax_cross_entropy`] over other axes than the last, or over some of the classes. Without any class
/// it is 0.
///
/// # Errors
/// As `softmax_cross_entropy`, and if the axes or the mask do not fit.
pub fn softmax_cross_entropy_with(logits: &Tensor, labels: &Tensor, over: &Over<'_>) -> Result<Tensor> {
    let (rows, logits, labels) = distributions("softmax_cross_entropy", logits, labels, over)?;
    if rows.is_whole()
        && let Some(losses) = cross_entropy::with_soft_labels(&logits, &labels)?
    {
        return Ok(losses);
    }
    let log_softmax = rows.log_softmax(&logits)?;
    Ok(rows.sum(&(labels * log_softmax)?)?.neg()?)
}

/// `-log_softmax(logits)[label]` over the last axis, for labels that are class indices, in `u8`, `u32` or
/// `i64`: `[.., classes]`, `[..]` to `[..]`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 0.], [3., -3.]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32, 0], &Device::Cpu)?;
/// let loss = treex_optim::softmax_cross_entropy_with_integer_labels(&logits, &labels)?;
/// assert_eq!(loss.to_vec1::<f32>()?, [2f32.ln(), (1. + (-6f32).exp()).ln()]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the labels' shape is not that of the logits without the last axis, logits are not floats, labels not
/// integers, or a label on the CPU is not a class index. On another device, where labels stay, the loss of such a
/// row is NaN.
#[doc(alias = "multiclass_logistic_loss")]
pub fn softmax_cross_entropy_with_integer_labels(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    softmax_cross_entropy_with_integer_labels_with(logits, labels, &Over::default())
}

/// [`softmax_cross_entropy_with_integer_labels`] over other axes than the last, or over some of the classes.
/// Without any class it is 0, whatever the label, such as PyTorch's `ignore_index` of -100: a mask `[.., 1]` leaves out rows. Over several axes, a label is the row-major index into those axes.
///
/// # Errors
/// As `softmax_cross_entropy_with_integer_labels`, and if the axes or the mask do not fit.
pub fn softmax_cross_entropy_with_integer_labels_with(
    logits: &Tensor,
    labels: &Tensor,
    over: &Over<'_>,
) -> Result<Tensor> {
    let name = "softmax_cross_entropy_with_integer_labels";
    let (rows, logits) = classes(name, logits, over)?;
    // A row without a class has no label, whatever stands there: -100, say.
    let fits = labels.dims() == &logits.dims()[..logits.rank() - 1];
    let labels = class_numbers(name, &logits, &if fits { rows.or_zero(labels)? } else { labels.clone() })?;
    if rows.is_whole()
        && let Some(losses) = cross_entropy::with_integer_labels(&logits, &labels.numbers)?
    {
        return Ok(losses);
    }
    let (shifted, normalizer) = rows.shifted(&widened(name, "logits", &logits)?)?;
    let label_logits = of_label(&shifted.contiguous()?, &labels)?;
    rows.or_zero(&(normalizer - label_logits)?.squeeze(D::Minus1)?)
}

/// [`softmax_cross_entropy`] in which a label of 0 for a logit of minus infinity contributes 0: `0 * log(0)`
/// is 0, not NaN. Over the last axis: `[.., classes]`, `[.., classes]` to `[..]`.
///
/// # Errors
/// As `softmax_cross_entropy`.
pub fn safe_softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let name = "safe_softmax_cross_entropy";
    let (rows, logits, labels) = distributions(name, logits, labels, &Over::default())?;
    let log_softmax = rows.log_softmax(&logits)?;
    let finite = maximum(&log_softmax, f64::from(f32::MIN))?;
    let log_softmax = labels.eq(&labels.zeros_like()?)?.where_cond(&finite, &log_softmax)?;
    Ok(rows.sum(&(labels * log_softmax)?)?.neg()?)
}

/// [`poly_loss_cross_entropy_with`] an `epsilon` of 2, over the last axis: `[.., classes]`, `[.., classes]`
/// to `[..]`.
///
/// # Errors
/// As [`softmax_cross_entropy`].
pub fn poly_loss_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    poly_loss_cross_entropy_with(logits, labels, 2., &Over::default())
}

/// `softmax_cross_entropy + epsilon * sum(labels * (1 - softmax(logits)))`: the cross entropy with another
/// weight for the first term of its series. Best `epsilon`s depend on the task; 2 suits images, -1 to 0
/// detection.
///
/// Leng et al., [PolyLoss](https://arxiv.org/abs/2204.12511), 2022.
///
/// # Errors
/// As [`softmax_cross_entropy_with`].
pub fn poly_loss_cross_entropy_with(
    logits: &Tensor,
    labels: &Tensor,
    epsilon: f64,
    over: &Over<'_>,
) -> Result<Tensor> {
    let (rows, logits, labels) = distributions("poly_loss_cross_entropy", logits, labels, over)?;
    let log_softmax = rows.log_softmax(&logits)?;
    let missing = (&labels * log_softmax.exp()?.affine(-1., 1.)?)?;
    Ok((rows.sum(&(missing * epsilon)?)? - rows.sum(&(labels * log_softmax)?)?)?)
}

/// Logits, and labels that are distributions, as rows, in the compute type.
fn distributions(
    loss: &str,
    logits: &Tensor,
    labels: &Tensor,
    over: &Over<'_>,
) -> Result<(Rows, Tensor, Tensor)> {
    let (logits, labels) = aligned(loss, ("logits", logits), ("labels", labels))?;
    let (rows, logits) = classes(loss, &logits, over)?;
    let labels = rows.arrange(&labels)?;
    Ok((rows, logits, labels))
}

/// Logits as rows of at least one class.
fn classes(loss: &str, logits: &Tensor, over: &Over<'_>) -> Result<(Rows, Tensor)> {
    check_floats(loss, "logits", logits)?;
    if logits.rank() == 0 {
        return Err(without_classes(loss, "logits", logits));
    }
    let rows = over.of(loss, logits)?;
    let arranged = rows.arrange(logits)?;
    match arranged.dim(D::Minus1)? {
        0 => Err(without_classes(loss, "logits", logits)),
        _ => Ok((rows, arranged)),
    }
}
