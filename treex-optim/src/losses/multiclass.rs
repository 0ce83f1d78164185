//! Losses over mutually exclusive classes, as scores.

use candle_core::{D, DType, Device, Tensor};
use treex_core::Result;
use treex_core::autograd::saved;
use treex_core::constants::arange;

use super::labels::{ClassNumbers, class_numbers, of_label, without_classes};
use super::math::row_max;
use super::widened;
use crate::projections::{Simplex, simplex};
use crate::transfer::{to_device_of, to_vec_f64};

/// `max_i(scores[i] + [i != label]) - scores[label]` over the last axis, for labels that are class indices:
/// `[.., classes]`, `[..]` to `[..]`. It is 0 where the right score leads by at least 1.
///
/// # Errors
/// As [`softmax_cross_entropy_with_integer_labels`](super::softmax_cross_entropy_with_integer_labels).
pub fn multiclass_hinge_loss(scores: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (scores, labels) = scored("multiclass_hinge_loss", scores, labels)?;
    let classes = arange(scores.dim(D::Minus1)?, scores.device())?;
    let others = classes.broadcast_ne(&labels.numbers.to_dtype(DType::I64)?)?.to_dtype(scores.dtype())?;
    Ok((row_max(&(&scores + others)?)? - of_label(&scores, &labels)?.squeeze(D::Minus1)?)?)
}

/// `max_i(scores[i]) - scores[label]` over the last axis, for labels that are class indices: `[.., classes]`,
/// `[..]` to `[..]`. It is 0 where the right score is the largest.
///
/// # Errors
/// As [`multiclass_hinge_loss`].
pub fn multiclass_perceptron_loss(scores: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (scores, labels) = scored("multiclass_perceptron_loss", scores, labels)?;
    Ok((row_max(&scores)? - of_label(&scores, &labels)?.squeeze(D::Minus1)?)?)
}

/// The cross entropy's counterpart for [sparsemax](https://arxiv.org/abs/1602.02068), which projects scores
/// onto distributions: with `p` the nearest point of the simplex to `scores`,
///
/// ```text
/// sum(p * (scores - scores[label])) + (1 - sum(p^2)) / 2
/// ```
///
/// over the last axis, for labels that are class indices: `[.., classes]`, `[..]` to `[..]`. Its gradient
/// is `p` minus the one-hot label. `p` is computed on the CPU.
///
/// Martins and Astudillo, [From Softmax to Sparsemax](https://arxiv.org/abs/1602.02068), 2016.
///
/// # Errors
/// As [`multiclass_hinge_loss`].
pub fn multiclass_sparsemax_loss(scores: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (scores, labels) = scored("multiclass_sparsemax_loss", scores, labels)?;
    let classes = scores.dim(D::Minus1)?;
    let host = to_vec_f64(&scores)?;
    let rows: Vec<_> = host.chunks_exact(classes).map(|row| simplex(row.to_vec(), 1.)).collect();
    let column = |of: fn(&Simplex) -> f64| -> Result<Tensor> {
        let values = Tensor::from_vec(rows.iter().map(of).collect(), labels.numbers.shape(), &Device::Cpu)?;
        to_device_of(&values.to_dtype(scores.dtype())?, &scores)
    };
    // `p` is optimal, so its derivative does not contribute to the first derivative of the loss, only to the second.
    let lowered = saved(&scores).broadcast_sub(&column(|row| row.max)?)?;
    let zeros = lowered.zeros_like()?;
    // Not the other way round, so that NaN is not 0.
    let is_zero = lowered.detach().broadcast_le(&column(|row| row.threshold)?)?;
    let threshold = match lowered.track_op() {
        false => column(|row| row.threshold)?,
        true => {
            let kept = is_zero.where_cond(&zeros, &zeros.ones_like()?)?.sum_keepdim(D::Minus1)?;
            let sum = is_zero.where_cond(&zeros, &lowered)?.sum_keepdim(D::Minus1)?;
            ((sum - 1.)? / kept)?
        }
    };
    let p = is_zero.where_cond(&zeros, &lowered.broadcast_sub(&threshold)?)?;
    let leads = scores.broadcast_sub(&of_label(&scores, &labels)?)?;
    let leads = is_zero.where_cond(&zeros, &leads)?;
    let expected = (&p * leads)?.sum(D::Minus1)?;
    Ok((expected + p.sqr()?.sum(D::Minus1)?.affine(-0.5, 0.5)?)?)
}

/// Scores in the compute type, and labels that index their columns.
fn scored(loss: &str, scores: &Tensor, labels: &Tensor) -> Result<(Tensor, ClassNumbers)> {
    let wide = widened(loss, "scores", scores)?.contiguous()?;
    if wide.dims().last().is_none_or(|&classes| classes == 0) {
        return Err(without_classes(loss, "scores", scores));
    }
    let labels = class_numbers(loss, &wide, labels)?;
    Ok((wide, labels))
}
