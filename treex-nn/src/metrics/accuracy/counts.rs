//! Counts of true and false predictions in a batch.

use candle_core::{D, DType, Tensor};
use treex_core::size::check_size;
use treex_core::{Error, ErrorKind, Result};

use super::{Accuracy, Task};
use crate::metrics::state::to_host;

impl Accuracy {
    fn check(&self, preds: &Tensor, target: &Tensor) -> Result<()> {
        let floats = preds.dtype().is_float();
        let scores = floats && self.task == Task::Multiclass;
        if self.classes == 0 || self.top_k == 0 || (self.top_k > 1 && (!scores || self.top_k > self.classes))
        {
            return Err(Error::argument("`Accuracy` has a `top_k` or a number of classes that does not fit")
                .expected("at least one class; `top_k` of 1, or of scores up to the number of classes")
                .found(format!("{} classes, `top_k` of {}", self.classes, self.top_k)));
        }
        if !target.dtype().is_int() || !(floats || preds.dtype().is_int()) {
            return Err(Error::new(ErrorKind::DType, "`Accuracy` got inputs of the wrong type")
                .expected("targets of integers, predictions of integers or floats")
                .found(format!("`{}` and `{}`", target.dtype().as_str(), preds.dtype().as_str())));
        }
        check_size(&self.classes.into(), DType::F64)?;
        let expected = match self.task {
            Task::Multiclass if floats => [target.dims(), &[self.classes]].concat(),
            _ => target.dims().to_vec(),
        };
        let labels = target.dims().last().copied().unwrap_or(0);
        if preds.dims() != expected || (self.task == Task::Multilabel && labels != self.classes) {
            return Err(Error::shape("`Accuracy` got predictions and targets whose shapes do not fit")
                .expected(match self.task {
                    Task::Binary => "the same shape".to_owned(),
                    Task::Multiclass => {
                        format!("[.., {}] and [..], or for integers the same shape", self.classes)
                    }
                    Task::Multilabel => format!("[.., {0}] and [.., {0}]", self.classes),
                })
                .found(format!("{:?} and {:?}", preds.dims(), target.dims())));
        }
        Ok(())
    }

    /// The predicted and the target class of each position; `None` where the target is ignored.
    pub(super) fn pairs(&self, preds: &Tensor, target: &Tensor) -> Result<Vec<Option<(usize, usize)>>> {
        self.check(preds, target)?;
        let integers = |x: &Tensor| -> Result<Vec<i64>> {
            Ok(to_host(x)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1()?)
        };
        let targets = integers(target)?;
        let predicted = match self.task {
            // Candle's maximum fails on empty tensors.
            _ if targets.is_empty() => Vec::new(),
            _ if preds.dtype().is_int() => integers(preds)?,
            Task::Multiclass if self.top_k == 1 => integers(&preds.argmax(D::Minus1)?)?,
            Task::Multiclass => self.top_k_or_highest(preds, &targets)?,
            _ => integers(&preds.gt(self.threshold)?)?,
        };
        let values = if self.task == Task::Multiclass { self.classes } else { 2 };
        let class = |value: i64, what: &str| {
            usize::try_from(value).ok().filter(|class| *class < values).ok_or_else(|| {
                Error::argument(format!("`Accuracy` got a {what} that is not a class"))
                    .expected(format!("0 to {}", values - 1))
                    .found(value)
            })
        };
        let pair = |(predicted, target): (i64, i64)| match self.ignore_index {
            Some(ignored) if ignored == target => Ok(None),
            _ => Ok(Some((class(predicted, "prediction")?, class(target, "target")?))),
        };
        predicted.into_iter().zip(targets).map(pair).collect()
    }

    /// The target if it is among the `top_k` highest scores, else the class of the highest score.
    fn top_k_or_highest(&self, scores: &Tensor, targets: &[i64]) -> Result<Vec<i64>> {
        let scores = to_host(scores)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let top_k_or_highest = |(scores, &target): (&[f64], &i64)| {
            let above = |class: usize| {
                let own = scores[class];
                let before = scores[..class].iter().filter(|score| **score >= own).count();
                before + scores[class + 1..].iter().filter(|score| **score > own).count()
            };
            let highest = || (0..scores.len()).find(|&class| above(class) == 0).unwrap_or(0) as i64;
            // A NaN is above no score.
            let known =
                usize::try_from(target).ok().filter(|&class| scores.get(class).is_some_and(|x| !x.is_nan()));
            if known.is_some_and(|class| above(class) < self.top_k) { target } else { highest() }
        };
        Ok(scores.chunks_exact(self.classes).zip(targets).map(top_k_or_highest).collect())
    }

    /// True and false positives, true and false negatives among the pairs of `samples` samples.
    pub(super) fn counts(&self, pairs: &[Option<(usize, usize)>], samples: usize) -> [Vec<i64>; 4] {
        let [mut tp, mut fp, mut tn, mut fn_] = [(); 4].map(|()| vec![0i64; self.classes]);
        let right =
            |pair: &Option<(usize, usize)>| pair.is_none_or(|(predicted, target)| predicted == target);
        if self.counts_samples() {
            let size =
                if self.task == Task::Multilabel { self.classes } else { pairs.len() / samples.max(1) };
            for sample in pairs.chunks(size.max(1)) {
                let count = if sample.iter().all(right) { &mut tp } else { &mut fn_ };
                count[0] += 1;
            }
        } else if self.task == Task::Multiclass {
            let counted = pairs.iter().flatten().count() as i64;
            for &(predicted, target) in pairs.iter().flatten() {
                if predicted == target {
                    tp[target] += 1;
                } else {
                    fp[predicted] += 1;
                    fn_[target] += 1;
                }
            }
            tn = (0..self.classes).map(|class| counted - tp[class] - fp[class] - fn_[class]).collect();
        } else {
            for (index, pair) in pairs.iter().enumerate() {
                let count = match pair {
                    Some((1, 1)) => &mut tp,
                    Some((1, _)) => &mut fp,
                    Some((_, 1)) => &mut fn_,
                    Some(_) => &mut tn,
                    None => continue,
                };
                count[index % self.classes] += 1;
            }
        }
        [tp, fp, tn, fn_]
    }
}
