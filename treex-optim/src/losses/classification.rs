//! Losses over classes.

use candle_core::{D, DType, Tensor};
use treex_core::{Error, ErrorKind, Result};

use super::{aligned, widened};

/// `-sum(labels * log_softmax(logits))` over the last axis, for labels that are distributions:
/// `[.., classes]`, `[.., classes]` to `[..]`.
///
/// # Errors
/// If shapes or element types differ, are not floats, or there is no axis of classes.
pub fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let name = "softmax_cross_entropy";
    check_classes(name, logits)?;
    let (logits, labels) = aligned(name, ("logits", logits), ("labels", labels))?;
    let shifted = shifted(&logits)?;
    let log_softmax = shifted.broadcast_sub(&log_sum_exp(&shifted)?)?;
    Ok((labels * log_softmax)?.sum(D::Minus1)?.neg()?)
}

/// `-log_softmax(logits)[label]` over the last axis, for labels that are the number of a class, in `u8`, `u32`
/// or `i64`: `[.., classes]`, `[..]` to `[..]`.
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
/// integers, or (on the CPU, where looking costs nothing) a label is not the number of a class.
pub fn softmax_cross_entropy_with_integer_labels(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let name = "softmax_cross_entropy_with_integer_labels";
    let classes = check_classes(name, logits)?;
    let batch = &logits.dims()[..logits.rank() - 1];
    if labels.dims() != batch {
        return Err(Error::shape(format!(
            "`{name}` got logits of shape {:?} and labels that do not fit",
            logits.dims()
        ))
        .expected(format!("labels of shape {batch:?}: one class for each row"))
        .found(format!("{:?}", labels.dims()))
        .remedy("for one-hot or soft labels use `softmax_cross_entropy`"));
    }
    let logits = widened(name, "logits", logits)?;
    let labels = class_numbers(name, labels, classes)?;
    let shifted = shifted(&logits)?;
    let label_logits =
        shifted.contiguous()?.gather(&labels.unsqueeze(D::Minus1)?.contiguous()?, D::Minus1)?;
    Ok((log_sum_exp(&shifted)? - label_logits)?.squeeze(D::Minus1)?)
}

/// The number of classes: the length of the last axis.
fn check_classes(loss: &str, logits: &Tensor) -> Result<usize> {
    match logits.dims().last() {
        Some(&classes) if classes > 0 => Ok(classes),
        _ => Err(Error::shape(format!("`{loss}` got logits without classes"))
            .expected("shape [.., classes]")
            .found(format!("{:?}", logits.dims()))),
    }
}

/// Labels in a type that can index.
fn class_numbers(loss: &str, labels: &Tensor, classes: usize) -> Result<Tensor> {
    let labels = match labels.dtype() {
        DType::U8 => labels.to_dtype(DType::U32)?,
        DType::U32 | DType::I64 => labels.clone(),
        other => {
            return Err(Error::new(
                ErrorKind::DType,
                format!("`{loss}` got labels that do not number classes"),
            )
            .expected("`u8`, `u32` or `i64`")
            .found(format!("`{}`", other.as_str()))
            .remedy("cast them with `to_dtype(DType::U32)?`"));
        }
    };
    if labels.device().is_cpu() {
        let numbers = labels.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
        if let Some(number) =
            numbers.into_iter().find(|&label| usize::try_from(label).map_or(true, |label| label >= classes))
        {
            return Err(Error::argument(format!("`{loss}` got a label that is not the number of a class"))
                .expected(format!("labels from 0 to {}, as many as the logits have columns", classes - 1))
                .found(number)
                .remedy("give the last layer as many outputs as there are classes, or count labels from 0"));
        }
    }
    Ok(labels)
}

/// Logits less the largest of their row, so that no exponential overflows. What is subtracted cancels in every
/// loss, so it is not differentiated. An empty batch has no largest.
fn shifted(logits: &Tensor) -> Result<Tensor> {
    if logits.elem_count() == 0 {
        return Ok(logits.clone());
    }
    Ok(logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?)
}

/// `log(sum(exp(x)))` over the last axis, which is kept.
fn log_sum_exp(shifted: &Tensor) -> Result<Tensor> {
    Ok(shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}
