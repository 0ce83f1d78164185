//! Softmax cross entropy of rows. A row of logits is read once forward and once backward, which computes its softmax
//! again from the [`LogSumExp`] that forward returns.
//!
//! Logits are `[rows, classes]`, and pieces of whole rows are shared among all cores. Half types are computed in `f32`
//! and rounded once.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::fill::filled;
use crate::float::Float;
use crate::isa::{Kernel, dispatch};
use crate::log_sum_exp::LogSumExp;
use crate::math::Real;
use crate::parallel::pieces;
use crate::reduce::sums2;

/// The loss of each row, and what its backward pass needs of the row.
pub type Losses<T> = (Vec<f64>, Vec<LogSumExp<<T as Float>::Wide>>);

/// The kernels for devices, of [rows](crate::dialect::ROWS), with `IS_LONG` defined.
pub const DIALECT: &str = include_str!("cross_entropy.h");

entry_points! {
    /// Cross entropy with labels that are class indices, one for each row.
    pub trait IntegerCrossEntropy: Float for [f32, f64, bf16, f16] {
        /// `-log_softmax(logits)[label]` of each row.
        ///
        /// # Errors
        /// If sizes do not fit, a label is not below `classes`, or memory cannot be allocated.
        fn integer_cross_entropy(
            logits: &[Self],
            labels: &[u32],
            classes: usize,
        ) -> Result<Losses<Self>> = integer_forward;

        /// `(softmax(logits) - one_hot(label)) * cotangent` of each row, the gradient for the logits.
        ///
        /// # Errors
        /// If sizes do not fit, a label is not below `classes`, or memory cannot be allocated.
        fn integer_cross_entropy_backward(
            logits: &[Self],
            labels: &[u32],
            classes: usize,
            log_sum_exps: &[LogSumExp<Self::Wide>],
            cotangents: &[Self::Wide],
        ) -> Result<Vec<Self>> = integer_backward;
    }
}

entry_points! {
    /// Cross entropy with labels that are distributions over classes, of the shape of the logits.
    pub trait SoftCrossEntropy: Float for [f32, f64] {
        /// `-sum(labels * log_softmax(logits))` of each row.
        ///
        /// # Errors
        /// If sizes do not fit, or memory cannot be allocated.
        fn soft_cross_entropy(
            logits: &[Self],
            labels: &[Self],
            classes: usize,
        ) -> Result<Losses<Self>> = soft_forward;

        /// `(softmax(logits) * sum(labels) - labels) * cotangent` of each row, the gradient for the logits.
        ///
        /// # Errors
        /// If sizes do not fit, or memory cannot be allocated.
        fn soft_cross_entropy_backward(
            logits: &[Self],
            labels: &[Self],
            classes: usize,
            log_sum_exps: &[LogSumExp<Self::Wide>],
            cotangents: &[Self::Wide],
        ) -> Result<Vec<Self>> = soft_backward;

        /// `-log_softmax(logits) * cotangent` of each row, the gradient for the labels.
        ///
        /// # Errors
        /// If sizes do not fit, or memory cannot be allocated.
        fn soft_cross_entropy_backward_labels(
            logits: &[Self],
            classes: usize,
            log_sum_exps: &[LogSumExp<Self::Wide>],
            cotangents: &[Self::Wide],
        ) -> Result<Vec<Self>> = soft_backward_labels;
    }
}

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 14;

/// Elements of a piece.
const PIECE: usize = 1 << 14;

/// The number of rows of logits, if it is that of `others` too.
fn rows(logits: usize, classes: usize, others: &[(&'static str, usize)]) -> Result<usize> {
    if classes == 0 || !logits.is_multiple_of(classes) {
        return Err(Error::shape(
            "the logits are not whole rows of classes",
            format_args!("a multiple of {classes} logits"),
            logits,
        ));
    }
    let rows = logits / classes;
    match others.iter().find(|(_, len)| *len != rows) {
        Some((message, len)) => Err(Error::shape(message, format_args!("{rows} rows"), len)),
        None => Ok(rows),
    }
}

fn check_labels(labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().find(|&&label| label as usize >= classes) {
        Some(label) => Err(Error::shape("a label is out of range", format_args!("below {classes}"), label)),
        None => Ok(()),
    }
}

/// A new buffer of `rows` times `len` elements, written by `kernel` piece by piece; it receives the index of the piece's
/// first row.
///
/// # Safety
/// `kernel` gives every element of its piece a value.
unsafe fn map_rows<T: Send>(
    (rows, len): (usize, usize),
    classes: usize,
    kernel: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync,
) -> Result<Vec<T>> {
    let together = (PIECE / classes).max(1);
    let parallel = rows * classes >= PARALLEL;
    // SAFETY: the pieces make up the buffer, and the kernel writes each element of each piece.
    unsafe {
        filled(rows * len, |buffer| {
            pieces(buffer, together * len, parallel, |index, piece| kernel(index * together, piece));
        })
    }
}

fn integer_forward<T: Float>(logits: &[T], labels: &[u32], classes: usize) -> Result<Losses<T>> {
    let rows = rows(logits.len(), classes, &[("not one label for each row", labels.len())])?;
    check_labels(labels, classes)?;
    // SAFETY: a piece has an element for each of its rows of logits, and the kernel writes one for each row.
    let log_sum_exps = unsafe {
        map_rows((rows, 1), classes, |first, log_sum_exps| {
            let logits = &logits[first * classes..][..log_sum_exps.len() * classes];
            dispatch(LogSumExps { logits, classes, log_sum_exps });
        })?
    };
    let rows = logits.chunks_exact(classes).zip(labels).zip(&log_sum_exps);
    let loss = |((row, &label), log_sum_exp): ((&[T], &u32), &LogSumExp<T::Wide>)| {
        -log_sum_exp.log_softmax(row[label as usize].widen()).to_f64()
    };
    Ok((rows.map(loss).collect(), log_sum_exps))
}

struct LogSumExps<'a, T: Float> {
    logits: &'a [T],
    classes: usize,
    log_sum_exps: &'a mut [MaybeUninit<LogSumExp<T::Wide>>],
}

impl<T: Float> Kernel for LogSumExps<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (row, log_sum_exp) in self.logits.chunks_exact(self.classes).zip(self.log_sum_exps) {
            log_sum_exp.write(LogSumExp::of(row));
        }
    }
}

fn integer_backward<T: Float>(
    logits: &[T],
    labels: &[u32],
    classes: usize,
    log_sum_exps: &[LogSumExp<T::Wide>],
    cotangents: &[T::Wide],
) -> Result<Vec<T>> {
    let others = [
        ("not one label for each row", labels.len()),
        ("not one sum for each row", log_sum_exps.len()),
        ("not one cotangent for each row", cotangents.len()),
    ];
    let rows = rows(logits.len(), classes, &others)?;
    check_labels(labels, classes)?;
    // SAFETY: a piece is as large as its rows of logits, which have a label, a sum and a cotangent each, and the kernel
    // writes each element of each row.
    unsafe {
        map_rows((rows, classes), classes, |first, gradient| {
            dispatch(IntegerGradient {
                logits: &logits[first * classes..][..gradient.len()],
                classes,
                labels: &labels[first..],
                log_sum_exps: &log_sum_exps[first..],
                cotangents: &cotangents[first..],
                gradient,
            });
        })
    }
}

struct IntegerGradient<'a, T: Float> {
    logits: &'a [T],
    classes: usize,
    labels: &'a [u32],
    log_sum_exps: &'a [LogSumExp<T::Wide>],
    cotangents: &'a [T::Wide],
    gradient: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for IntegerGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.logits.chunks_exact(self.classes).zip(self.gradient.chunks_exact_mut(self.classes));
        let others = self.labels.iter().zip(self.log_sum_exps).zip(self.cotangents);
        for ((row, gradient), ((&label, log_sum_exp), &cotangent)) in rows.zip(others) {
            let softmax = |x: T| log_sum_exp.log_softmax(x.widen()).exp();
            for (gradient, &x) in gradient.iter_mut().zip(row) {
                gradient.write(T::narrow(softmax(x) * cotangent));
            }
            let label = label as usize;
            gradient[label].write(T::narrow((softmax(row[label]) - T::Wide::of(1.)) * cotangent));
        }
    }
}

fn soft_forward<T: Float>(logits: &[T], labels: &[T], classes: usize) -> Result<Losses<T>> {
    let rows = rows(logits.len(), classes, &[])?;
    check_lengths(logits, labels)?;
    // SAFETY: a piece has an element for each of its rows of logits and labels, and the kernel writes one for each row.
    let both = unsafe {
        map_rows((rows, 1), classes, |first, results| {
            let range = first * classes..(first + results.len()) * classes;
            dispatch(SoftLosses { logits: &logits[range.clone()], labels: &labels[range], classes, results });
        })?
    };
    Ok(both.into_iter().unzip())
}

fn check_lengths<T>(logits: &[T], labels: &[T]) -> Result<()> {
    if logits.len() == labels.len() {
        return Ok(());
    }
    Err(Error::shape(
        "logits and labels of different lengths",
        format_args!("{} labels", logits.len()),
        labels.len(),
    ))
}

/// The loss of a row, and what backward needs of it.
type SoftLoss<T> = (f64, LogSumExp<<T as Float>::Wide>);

struct SoftLosses<'a, T: Float> {
    logits: &'a [T],
    labels: &'a [T],
    classes: usize,
    results: &'a mut [MaybeUninit<SoftLoss<T>>],
}

impl<T: Float> Kernel for SoftLosses<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.logits.chunks_exact(self.classes).zip(self.labels.chunks_exact(self.classes));
        for ((logits, labels), result) in rows.zip(self.results) {
            let log_sum_exp = LogSumExp::of(logits);
            let [sum] =
                sums2(logits, labels, |x, label| [label.widen() * log_sum_exp.log_softmax(x.widen())]);
            result.write((-sum.to_f64(), log_sum_exp));
        }
    }
}

fn soft_backward<T: Float>(
    logits: &[T],
    labels: &[T],
    classes: usize,
    log_sum_exps: &[LogSumExp<T::Wide>],
    cotangents: &[T::Wide],
) -> Result<Vec<T>> {
    check_lengths(logits, labels)?;
    soft_gradient((logits, labels), false, classes, log_sum_exps, cotangents)
}

fn soft_backward_labels<T: Float>(
    logits: &[T],
    classes: usize,
    log_sum_exps: &[LogSumExp<T::Wide>],
    cotangents: &[T::Wide],
) -> Result<Vec<T>> {
    // The gradient does not depend on the labels.
    soft_gradient((logits, logits), true, classes, log_sum_exps, cotangents)
}

/// `logits` and `labels` have one length.
fn soft_gradient<T: Float>(
    (logits, labels): (&[T], &[T]),
    of_labels: bool,
    classes: usize,
    log_sum_exps: &[LogSumExp<T::Wide>],
    cotangents: &[T::Wide],
) -> Result<Vec<T>> {
    let others = [
        ("not one sum for each row", log_sum_exps.len()),
        ("not one cotangent for each row", cotangents.len()),
    ];
    let rows = rows(logits.len(), classes, &others)?;
    // SAFETY: a piece is as large as its rows of logits and of labels, which have a sum and a cotangent each, and the
    // kernel writes each element of each row.
    unsafe {
        map_rows((rows, classes), classes, |first, gradient| {
            let range = first * classes..first * classes + gradient.len();
            dispatch(SoftGradient {
                of_labels,
                logits: &logits[range.clone()],
                labels: &labels[range],
                classes,
                log_sum_exps: &log_sum_exps[first..],
                cotangents: &cotangents[first..],
                gradient,
            });
        })
    }
}

struct SoftGradient<'a, T: Float> {
    of_labels: bool,
    logits: &'a [T],
    labels: &'a [T],
    classes: usize,
    log_sum_exps: &'a [LogSumExp<T::Wide>],
    cotangents: &'a [T::Wide],
    gradient: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for SoftGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let classes = self.classes;
        let rows = self.logits.chunks_exact(classes).zip(self.labels.chunks_exact(classes));
        let others = self.log_sum_exps.iter().zip(self.cotangents);
        let rows = rows.zip(self.gradient.chunks_exact_mut(classes)).zip(others);
        for (((logits, labels), gradient), (log_sum_exp, &cotangent)) in rows {
            if self.of_labels {
                for (gradient, &x) in gradient.iter_mut().zip(logits) {
                    gradient.write(T::narrow(-log_sum_exp.log_softmax(x.widen()) * cotangent));
                }
                continue;
            }
            let [total] = sums2(labels, labels, |label, _| [label.widen()]);
            for ((gradient, &x), &label) in gradient.iter_mut().zip(logits).zip(labels) {
                let softmax = log_sum_exp.log_softmax(x.widen()).exp();
                gradient.write(T::narrow(softmax.mul_add(total, -label.widen()) * cotangent));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the formulas in a plain loop, over rows around the lengths of lanes and pieces, and of all cores.
    #[test]
    fn rows_of_all_lengths() -> Result<()> {
        for (rows, classes) in [(0, 3), (1, 1), (5, 7), (3, 64), (2, 65), (40, 500)] {
            let x: Vec<f64> = (0..rows * classes).map(|i| ((i * 37 + 11) % 23) as f64 * 0.3 - 3.).collect();
            let soft: Vec<f64> = x.iter().map(|x| (x * 1.7).sin().abs()).collect();
            let labels: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
            let cotangents: Vec<f64> = (0..rows).map(|row| row as f64 * 0.1 - 0.2).collect();
            let (hard_losses, sums) = f64::integer_cross_entropy(&x, &labels, classes)?;
            let (soft_losses, _) = f64::soft_cross_entropy(&x, &soft, classes)?;
            let dx = f64::integer_cross_entropy_backward(&x, &labels, classes, &sums, &cotangents)?;
            let soft_dx = f64::soft_cross_entropy_backward(&x, &soft, classes, &sums, &cotangents)?;
            let dsoft = f64::soft_cross_entropy_backward_labels(&x, classes, &sums, &cotangents)?;
            let close = |found: f64, expected: f64| {
                assert!((found - expected).abs() < 1e-11, "{rows} {classes}: {found} {expected}");
            };
            for row in 0..rows {
                let range = row * classes..(row + 1) * classes;
                let sum: f64 = x[range.clone()].iter().map(|x| x.exp()).sum();
                let total: f64 = soft[range.clone()].iter().sum();
                let log_softmax = |i: usize| (x[i].exp() / sum).ln();
                close(hard_losses[row], -log_softmax(row * classes + labels[row] as usize));
                close(soft_losses[row], -range.clone().map(|i| soft[i] * log_softmax(i)).sum::<f64>());
                for i in range {
                    let (softmax, cotangent) = (x[i].exp() / sum, cotangents[row]);
                    let is_label = i == row * classes + labels[row] as usize;
                    close(dx[i], (softmax - f64::from(u8::from(is_label))) * cotangent);
                    close(soft_dx[i], (softmax * total - soft[i]) * cotangent);
                    close(dsoft[i], -log_softmax(i) * cotangent);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn sizes_that_do_not_fit() -> Result<()> {
        let x = [1f32, 2., 3., 4., 5., 6.];
        let (_, sums) = f32::integer_cross_entropy(&x, &[0, 2], 3)?;
        assert!(f32::integer_cross_entropy(&x, &[0, 2], 0).is_err());
        assert!(f32::integer_cross_entropy(&x, &[0], 4).is_err());
        assert!(f32::integer_cross_entropy(&x, &[0], 3).is_err());
        let error = f32::integer_cross_entropy(&x, &[0, 3], 3).expect_err("no class").to_string();
        assert_eq!(error, "a label is out of range: expected below 3, found 3");
        assert!(f32::integer_cross_entropy_backward(&x, &[0, 2], 3, &sums[1..], &[1., 1.]).is_err());
        assert!(f32::integer_cross_entropy_backward(&x, &[0, 2], 3, &sums, &[1.]).is_err());
        assert!(f32::soft_cross_entropy(&x, &x[1..], 3).is_err());
        assert!(f32::soft_cross_entropy_backward(&x, &x[3..], 3, &sums, &[1., 1.]).is_err());
        assert!(f32::soft_cross_entropy_backward_labels(&x, 3, &sums, &[1.]).is_err());
        Ok(())
    }
}
