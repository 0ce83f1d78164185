//! The softmax cross entropy as one operation, which saves the logits and two numbers a row: backward computes the
//! softmax again.
//!
//! The reference compositions are in `classification`.

use candle_core::{DType, Device, Shape, Tensor};
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::device::{cross_entropy as device, has_kernels};
use treex_core::{Result, match_float};
use treex_kernels::cross_entropy::{IntegerCrossEntropy, SoftCrossEntropy};
use treex_kernels::log_sum_exp::LogSumExp;
use treex_kernels::math::Real;

use crate::numerics::wide;

/// `-log_softmax(logits)[label]` of each row of `[.., classes]`, in `f32` or `f64`, for labels below `classes`, in `U32` or `I64`; on
/// a device, a label that is no class gives NaN. `None` where there is no kernel.
pub(super) fn with_integer_labels(logits: &Tensor, labels: &Tensor) -> Result<Option<Tensor>> {
    if !has_kernel(logits) {
        return Ok(None);
    }
    if !logits.device().same_device(labels.device()) {
        return Ok(None);
    }
    if !logits.device().is_cpu() {
        return on_device(logits, labels).map(Some);
    }
    match_float!(
        logits.dtype(),
        T in [f32, f64, bf16, f16] => Integer::<T>::forward(logits, labels).map(Some),
        else Ok(None)
    )
}

/// `-sum(labels * log_softmax(logits))` of each row of `[.., classes]`, both in the same type: `f32` or `f64`.
/// `None` where there is no kernel.
pub(super) fn with_soft_labels(logits: &Tensor, labels: &Tensor) -> Result<Option<Tensor>> {
    if !has_kernel(logits) || !logits.device().is_cpu() || labels.dtype() != logits.dtype() {
        return Ok(None);
    }
    match_float!(
        logits.dtype(),
        T in [f32, f64] => Soft::<T>::forward(logits, labels).map(Some),
        else Ok(None)
    )
}

fn has_kernel(logits: &Tensor) -> bool {
    !is_reference() && has_kernels(logits) && logits.rank() > 0 && logits.elem_count() > 0
}

/// The number of classes, and the shape of the losses.
fn rows(logits: &Tensor) -> (usize, Shape) {
    let (classes, batch) = logits.dims().split_last().map_or((1, &[][..]), |(&last, rest)| (last, rest));
    (classes, batch.into())
}

/// A loss for each row.
fn losses(losses: Vec<f64>, shape: Shape, logits: &Tensor) -> Result<OwnedStorage> {
    OwnedStorage::take(Tensor::from_vec(losses, shape, &Device::Cpu)?.to_dtype(wide(logits.dtype()))?)
}

/// The gradient of each loss.
fn cotangents<W: Real>(cx: &BackwardContext) -> Result<Vec<W>> {
    let gradient = cx.cotangent()?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(gradient.into_iter().map(W::of).collect())
}

/// Labels are class indices.
struct Integer<T: Element> {
    logits: Tensor,
    labels: Vec<u32>,
    log_sum_exps: Vec<LogSumExp<T::Wide>>,
}

impl<T: Element + IntegerCrossEntropy> Integer<T> {
    fn forward(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (classes, shape) = rows(logits);
        let saved = logits.detach().contiguous()?;
        let labels = labels.flatten_all()?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        let (values, log_sum_exps) = T::integer_cross_entropy(&elements(&saved)?, &labels, classes)?;
        let output = losses(values, shape, logits)?;
        attach(Self { logits: saved, labels, log_sum_exps }, &[logits], output)
    }
}

impl<T: Element + IntegerCrossEntropy> Operation for Integer<T> {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy_with_integer_labels"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let gradient = T::integer_cross_entropy_backward(
            &elements(&self.logits)?,
            &self.labels,
            rows(&self.logits).0,
            &self.log_sum_exps,
            &cotangents::<T::Wide>(cx)?,
        )?;
        Ok(vec![Some(OwnedStorage::new(gradient, self.logits.shape())?.into_tensor())])
    }
}

/// Labels are class indices, and stay with the logits on a device.
struct IntegerOnDevice {
    logits: Tensor,
    labels: Tensor,
    saved: Tensor,
}

fn on_device(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (inputs, labels) = (logits.detach().contiguous()?, labels.contiguous()?);
    let (losses, saved) = device::integer_cross_entropy(&inputs, &labels)?;
    attach(IntegerOnDevice { logits: inputs, labels, saved }, &[logits], losses)
}

impl Operation for IntegerOnDevice {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy_with_integer_labels"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dlosses = cx.cotangent()?.contiguous()?;
        let gradient =
            device::integer_cross_entropy_backward(&self.logits, &self.labels, &self.saved, &dlosses)?;
        Ok(vec![Some(gradient.into_tensor())])
    }
}

/// Labels are distributions.
struct Soft<T: Element> {
    logits: Tensor,
    labels: Tensor,
    log_sum_exps: Vec<LogSumExp<T::Wide>>,
}

impl<T: Element + SoftCrossEntropy> Soft<T> {
    fn forward(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (classes, shape) = rows(logits);
        let saved = [logits.detach().contiguous()?, labels.detach().contiguous()?];
        let (values, log_sum_exps) =
            T::soft_cross_entropy(&elements(&saved[0])?, &elements(&saved[1])?, classes)?;
        let output = losses(values, shape, logits)?;
        let [saved_logits, saved_labels] = saved;
        attach(Self { logits: saved_logits, labels: saved_labels, log_sum_exps }, &[logits, labels], output)
    }
}

impl<T: Element + SoftCrossEntropy> Operation for Soft<T> {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let cotangents = cotangents::<T::Wide>(cx)?;
        let (classes, _) = rows(&self.logits);
        let (logits, labels) = (elements::<T>(&self.logits)?, elements::<T>(&self.labels)?);
        let tensor = |gradient| -> Result<_> {
            Ok(OwnedStorage::new::<T>(gradient, self.logits.shape())?.into_tensor())
        };
        let of_logits = || {
            tensor(T::soft_cross_entropy_backward(
                &logits,
                &labels,
                classes,
                &self.log_sum_exps,
                &cotangents,
            )?)
        };
        let of_labels = || {
            tensor(T::soft_cross_entropy_backward_labels(&logits, classes, &self.log_sum_exps, &cotangents)?)
        };
        Ok(vec![cx.wanted(0).then(of_logits).transpose()?, cx.wanted(1).then(of_labels).transpose()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::softmax_cross_entropy_with_integer_labels;

    /// Large logits lose no digits, and a label's loss is exact where it is small.
    #[test]
    fn large_logits() -> Result<()> {
        let logits = Tensor::new(&[[1e4f32, 1e4 - 1., -1e4], [0., f32::NEG_INFINITY, -20.]], &Device::Cpu)?;
        let labels = Tensor::new(&[1u32, 0], &Device::Cpu)?;
        let losses = softmax_cross_entropy_with_integer_labels(&logits, &labels)?;
        let expected = [1. + (1. + (-1f32).exp()).ln(), 0.];
        for (a, b) in losses.to_vec1::<f32>()?.into_iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
        Ok(())
    }
}
