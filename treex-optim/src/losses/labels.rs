//! Labels that are class indices.

use candle_core::{D, DType, Tensor};
use treex_core::autograd::is_nested;
use treex_core::constants::arange;
use treex_core::indices::Checked;
use treex_core::{Error, ErrorKind, Result};

/// The error for scores or logits without classes.
pub(super) fn without_classes(loss: &str, name: &str, logits: &Tensor) -> Error {
    Error::shape(format!("`{loss}` got {name} without classes"))
        .expected("shape [.., classes]")
        .found(format!("{:?}", logits.dims()))
}

/// Labels as `[.., 1]`, in a type that can index.
pub(super) struct ClassNumbers {
    pub(super) numbers: Tensor,
    /// How many classes there are, where it was not checked that labels are below: on another device than the CPU.
    unchecked: Option<usize>,
}

/// Labels for `logits` of shape `[.., classes]`. On the CPU one that is no class is an error; on another device, where
/// the check would read them back, [`of_label`] is NaN there, as in JAX.
pub(super) fn class_numbers(loss: &str, logits: &Tensor, labels: &Tensor) -> Result<ClassNumbers> {
    let Some((&classes, batch)) = logits.dims().split_last() else {
        return Err(without_classes(loss, "logits", logits));
    };
    if labels.dims() != batch {
        return Err(Error::shape(format!(
            "`{loss}` got logits of shape {:?} and labels that do not fit",
            logits.dims()
        ))
        .expected(format!("labels of shape {batch:?}: one class for each row"))
        .found(format!("{:?}", labels.dims()))
        .remedy("for one-hot or soft labels use `softmax_cross_entropy`"));
    }
    let labels = match labels.dtype() {
        DType::U8 => labels.to_dtype(DType::U32)?,
        DType::U32 | DType::I64 => labels.clone(),
        other => {
            return Err(Error::new(ErrorKind::DType, format!("`{loss}` got labels that are not integers"))
                .expected("`u8`, `u32` or `i64`")
                .found(format!("`{}`", other.as_str()))
                .remedy("cast them with `to_dtype(DType::U32)?`"));
        }
    };
    let column = labels.unsqueeze(D::Minus1)?.contiguous()?;
    if !labels.device().is_cpu() {
        let unchecked = (labels.elem_count() > 0).then_some(classes);
        return Ok(ClassNumbers { numbers: column, unchecked });
    }
    let numbers = labels.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    if let Some(number) =
        numbers.into_iter().find(|&label| usize::try_from(label).map_or(true, |label| label >= classes))
    {
        return Err(Error::argument(format!("`{loss}` got a label that is not a class index"))
            .expected(format!("labels from 0 to {}: one per column of the logits", classes - 1))
            .found(number)
            .remedy("give the last layer one output per class, or count labels from 0"));
    }
    Ok(ClassNumbers { numbers: column, unchecked: None })
}

/// The value of each row's label: `[.., classes]`, [`class_numbers`] to `[.., 1]`.
pub(super) fn of_label(rows: &Tensor, labels: &ClassNumbers) -> Result<Tensor> {
    let checked =
        labels.unchecked.map(|classes| Checked::new(&labels.numbers, classes, false)).transpose()?;
    let numbers = checked.as_ref().map_or(&labels.numbers, |checked| &checked.indices);
    let values = if is_nested() {
        // Candle cannot differentiate the gradient of `gather`. Chosen and not multiplied, since 0 times infinity is NaN.
        let classes = arange(rows.dim(D::Minus1)?, rows.device())?;
        let is_label = classes.broadcast_eq(&numbers.to_dtype(DType::I64)?)?;
        is_label.where_cond(rows, &rows.zeros_like()?)?.sum_keepdim(D::Minus1)?
    } else {
        rows.gather(numbers, D::Minus1)?
    };
    match checked {
        Some(checked) => checked.or_nan(&values, 0),
        None => Ok(values),
    }
}
