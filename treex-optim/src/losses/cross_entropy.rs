//! The softmax cross entropy as one operation: of what is as large as the logits, nothing is kept but the
//! logits. A row is read once forward and once backward, which computes its softmax again.
//!
//! The plain compositions are in `classification`.

use std::mem::MaybeUninit;

use candle_core::{DType, Shape, Tensor};
use treex_core::Result;
use treex_core::autograd::Element;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, elements, is_reference};
use treex_kernels::fill::filled;
use treex_kernels::float::{bf16, f16};
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::log_sum_exp::LogSumExp;
use treex_kernels::math::Real;
use treex_kernels::parallel::pieces;
use treex_kernels::reduce::sums2;

use crate::numerics::wide;

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 14;

/// Elements of a piece.
const PIECE: usize = 1 << 14;

/// `-log_softmax(logits)[label]` of each row of `[.., classes]`, in `f32` or `f64`, for labels that number
/// classes, which was checked. `None` where there is no kernel.
pub(super) fn with_integer_labels(logits: &Tensor, labels: &Tensor) -> Result<Option<Tensor>> {
    if !has_kernel(logits) || !labels.device().is_cpu() {
        return Ok(None);
    }
    Ok(Some(match logits.dtype() {
        DType::BF16 => Integer::<bf16>::of(logits, labels)?,
        DType::F16 => Integer::<f16>::of(logits, labels)?,
        DType::F32 => Integer::<f32>::of(logits, labels)?,
        DType::F64 => Integer::<f64>::of(logits, labels)?,
        _ => return Ok(None),
    }))
}

/// `-sum(labels * log_softmax(logits))` of each row of `[.., classes]`, both in the same type: `f32` or `f64`.
/// `None` where there is no kernel.
pub(super) fn with_soft_labels(logits: &Tensor, labels: &Tensor) -> Result<Option<Tensor>> {
    if !has_kernel(logits) || !labels.device().is_cpu() || labels.dtype() != logits.dtype() {
        return Ok(None);
    }
    Ok(Some(match logits.dtype() {
        DType::F32 => Soft::<f32>::of(logits, labels)?,
        DType::F64 => Soft::<f64>::of(logits, labels)?,
        _ => return Ok(None),
    }))
}

fn has_kernel(logits: &Tensor) -> bool {
    !is_reference() && logits.device().is_cpu() && logits.rank() > 0 && logits.elem_count() > 0
}

/// The number of classes, and the shape of the losses.
fn rows(logits: &Tensor) -> (usize, Shape) {
    let (classes, batch) = logits.dims().split_last().map_or((1, &[][..]), |(&last, rest)| (last, rest));
    (classes, batch.into())
}

/// A loss for each row.
fn losses(losses: Vec<f64>, shape: Shape, logits: &Tensor) -> Result<OwnedStorage> {
    OwnedStorage::take(Tensor::from_vec(losses, shape, logits.device())?.to_dtype(wide(logits.dtype()))?)
}

/// The gradient of each loss.
fn cotangents<W: Real>(cx: &BackwardContext) -> Result<Vec<W>> {
    let gradient = cx.cotangent()?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    Ok(gradient.into_iter().map(W::of).collect())
}

/// A new buffer of `rows` times `len`, of which `kernel` writes all of a piece; it gets the first row.
fn map<T: Send>(
    (rows, len): (usize, usize),
    classes: usize,
    kernel: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync,
) -> treex_kernels::Result<Vec<T>> {
    let together = (PIECE / classes).max(1);
    let parallel = rows * classes >= PARALLEL;
    // SAFETY: the kernels write each element of each piece, and pieces are whole rows.
    unsafe {
        filled(rows * len, |buffer| {
            pieces(buffer, together * len, parallel, |index, piece| kernel(index * together, piece));
        })
    }
}

/// For labels that number classes.
struct Integer<T: Element> {
    logits: Tensor,
    labels: Vec<u32>,
    normalizers: Vec<LogSumExp<T::Wide>>,
}

impl<T: Element> Integer<T> {
    fn of(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (classes, shape) = rows(logits);
        let kept = logits.detach().contiguous()?;
        let labels = labels.flatten_all()?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        let (normalizers, values) = {
            let logits = elements::<T>(&kept)?;
            let normalizers = map((labels.len(), 1), classes, |first, normalizers| {
                let logits = &logits[first * classes..][..normalizers.len() * classes];
                dispatch(Normalizers { logits, classes, normalizers });
            })?;
            let rows = logits.chunks_exact(classes).zip(&labels).zip(&normalizers);
            let loss = |((row, &label), normalizer): ((&[T], &u32), &LogSumExp<T::Wide>)| {
                -normalizer.log_softmax(row[label as usize].widen()).to_f64()
            };
            let values = rows.map(loss).collect();
            (normalizers, values)
        };
        let output = losses(values, shape, logits)?;
        attach(Self { logits: kept, labels, normalizers }, &[logits], output)
    }
}

struct Normalizers<'a, T: Element> {
    logits: &'a [T],
    classes: usize,
    normalizers: &'a mut [MaybeUninit<LogSumExp<T::Wide>>],
}

impl<T: Element> Kernel for Normalizers<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (row, normalizer) in self.logits.chunks_exact(self.classes).zip(self.normalizers) {
            normalizer.write(LogSumExp::of(row));
        }
    }
}

impl<T: Element> Operation for Integer<T> {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy_with_integer_labels"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let cotangents = cotangents::<T::Wide>(cx)?;
        let (classes, _) = rows(&self.logits);
        let logits = elements::<T>(&self.logits)?;
        let gradient = map((self.labels.len(), classes), classes, |first, gradient| {
            dispatch(IntegerGradient {
                logits: &logits[first * classes..][..gradient.len()],
                classes,
                labels: &self.labels[first..],
                normalizers: &self.normalizers[first..],
                cotangents: &cotangents[first..],
                gradient,
            });
        })?;
        Ok(vec![Some(OwnedStorage::new(gradient, self.logits.shape())?.into_tensor())])
    }
}

/// `(softmax - one_hot(label)) * cotangent`.
struct IntegerGradient<'a, T: Element> {
    logits: &'a [T],
    classes: usize,
    labels: &'a [u32],
    normalizers: &'a [LogSumExp<T::Wide>],
    cotangents: &'a [T::Wide],
    gradient: &'a mut [MaybeUninit<T>],
}

impl<T: Element> Kernel for IntegerGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.logits.chunks_exact(self.classes).zip(self.gradient.chunks_exact_mut(self.classes));
        let others = self.labels.iter().zip(self.normalizers).zip(self.cotangents);
        for ((row, gradient), ((&label, normalizer), &cotangent)) in rows.zip(others) {
            let softmax = |x: T| normalizer.log_softmax(x.widen()).exp();
            for (gradient, &x) in gradient.iter_mut().zip(row) {
                gradient.write(T::narrow(softmax(x) * cotangent));
            }
            let label = label as usize;
            gradient[label].write(T::narrow((softmax(row[label]) - T::Wide::of(1.)) * cotangent));
        }
    }
}

/// For labels that are distributions.
struct Soft<T: Element> {
    logits: Tensor,
    labels: Tensor,
    normalizers: Vec<LogSumExp<T::Wide>>,
}

impl<T: Element> Soft<T> {
    fn of(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (classes, shape) = rows(logits);
        let (kept, kept_labels) = (logits.detach().contiguous()?, labels.detach().contiguous()?);
        let (values, normalizers): (Vec<f64>, Vec<_>) = {
            let (x, y) = (elements::<T>(&kept)?, elements::<T>(&kept_labels)?);
            let both = map((shape.elem_count(), 1), classes, |first, results| {
                let range = first * classes..(first + results.len()) * classes;
                dispatch(SoftLosses { logits: &x[range.clone()], labels: &y[range], classes, results });
            })?;
            both.into_iter().unzip()
        };
        let output = losses(values, shape, logits)?;
        attach(Self { logits: kept, labels: kept_labels, normalizers }, &[logits, labels], output)
    }
}

/// A loss, and what normalizes its row.
type OfRow<T> = (f64, LogSumExp<<T as treex_kernels::float::Float>::Wide>);

struct SoftLosses<'a, T: Element> {
    logits: &'a [T],
    labels: &'a [T],
    classes: usize,
    results: &'a mut [MaybeUninit<OfRow<T>>],
}

impl<T: Element> Kernel for SoftLosses<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.logits.chunks_exact(self.classes).zip(self.labels.chunks_exact(self.classes));
        for ((logits, labels), result) in rows.zip(self.results) {
            let normalizer = LogSumExp::of(logits);
            let [sum] = sums2(logits, labels, |x, label| [label.widen() * normalizer.log_softmax(x.widen())]);
            result.write((-sum.to_f64(), normalizer));
        }
    }
}

impl<T: Element> Operation for Soft<T> {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let cotangents = cotangents::<T::Wide>(cx)?;
        let (classes, _) = rows(&self.logits);
        let (logits, labels) = (elements::<T>(&self.logits)?, elements::<T>(&self.labels)?);
        let gradient = |of_labels: bool| -> Result<Option<Tensor>> {
            let gradient = map((self.normalizers.len(), classes), classes, |first, gradient| {
                let range = first * classes..first * classes + gradient.len();
                dispatch(SoftGradient {
                    of_labels,
                    logits: &logits[range.clone()],
                    labels: &labels[range],
                    classes,
                    normalizers: &self.normalizers[first..],
                    cotangents: &cotangents[first..],
                    gradient,
                });
            })?;
            Ok(Some(OwnedStorage::new(gradient, self.logits.shape())?.into_tensor()))
        };
        let part = |index| if cx.wanted(index) { gradient(index == 1) } else { Ok(None) };
        Ok(vec![part(0)?, part(1)?])
    }
}

/// `(softmax * sum(labels) - labels) * cotangent` for the logits, `-log_softmax * cotangent` for the labels.
struct SoftGradient<'a, T: Element> {
    of_labels: bool,
    logits: &'a [T],
    labels: &'a [T],
    classes: usize,
    normalizers: &'a [LogSumExp<T::Wide>],
    cotangents: &'a [T::Wide],
    gradient: &'a mut [MaybeUninit<T>],
}

impl<T: Element> Kernel for SoftGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let classes = self.classes;
        let rows = self.logits.chunks_exact(classes).zip(self.labels.chunks_exact(classes));
        let others = self.normalizers.iter().zip(self.cotangents);
        let rows = rows.zip(self.gradient.chunks_exact_mut(classes)).zip(others);
        for (((logits, labels), gradient), (normalizer, &cotangent)) in rows {
            if self.of_labels {
                for (gradient, &x) in gradient.iter_mut().zip(logits) {
                    gradient.write(T::narrow(-normalizer.log_softmax(x.widen()) * cotangent));
                }
                continue;
            }
            let [total] = sums2(labels, labels, |label, _| [label.widen()]);
            for ((gradient, &x), &label) in gradient.iter_mut().zip(logits).zip(labels) {
                let softmax = normalizer.log_softmax(x.widen()).exp();
                gradient.write(T::narrow(softmax.mul_add(total, -label.widen()) * cotangent));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::losses::contract::{ALL, Case, WIDE, check};
    use crate::losses::{softmax_cross_entropy, softmax_cross_entropy_with_integer_labels};

    #[test]
    fn integer_labels() {
        check("softmax_cross_entropy_with_integer_labels", ALL, |draw| {
            let shape = [draw.rows(), vec![draw.size().max(1)]].concat();
            let (classes, rows) = (shape[shape.len() - 1], &shape[..shape.len() - 1]);
            let labels = (0..rows.iter().product::<usize>()).map(|row| (row * 7 % classes) as u32);
            let labels = Tensor::from_vec(labels.collect(), rows, &Device::Cpu);
            let f = move |x: &[Tensor]| {
                softmax_cross_entropy_with_integer_labels(&x[0], labels.as_ref().expect("as many as rows"))
            };
            Case::new(vec![shape], f)
        });
    }

    #[test]
    fn soft_labels() {
        check("softmax_cross_entropy", WIDE, |draw| {
            let shape = [draw.rows(), vec![draw.size().max(1)]].concat();
            Case::new(vec![shape.clone(), shape], |x| softmax_cross_entropy(&x[0], &x[1]))
        });
    }

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
