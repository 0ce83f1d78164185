//! How often the model is right.

use candle_core::{D, DType, Device, Tensor};
use treex_core::{Error, ErrorKind, Leaf, MetricState, Result, TreeObject};

use super::state::{add, nothing_yet, value};
use super::{Inputs, Metric};

/// The share of predictions that are right, as torchmetrics counts it.
///
/// | made by | `preds` | `target` |
/// |---|---|---|
/// | [`binary`](Self::binary) | `[..]`, scores or 0 and 1 | `[..]`, 0 and 1 |
/// | [`multiclass`](Self::multiclass) | `[.., classes]`, scores, or `[..]`, classes | `[..]`, classes |
/// | [`multilabel`](Self::multilabel) | `[.., labels]`, scores or 0 and 1 | `[.., labels]`, 0 and 1 |
///
/// Scores are floats, everything else integers. A score of one class or label is compared with the threshold as
/// it is: of logits, not probabilities, a threshold of 0 is the one in the middle. Where nothing was counted,
/// the accuracy is 0. Predictions are read on the host.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::metrics::{Accuracy, Average, Inputs, Metric};
///
/// let logits = Tensor::new(&[[0.1f32, 0.9, 0.], [0.3, 0.1, 0.6], [0.2, 0.5, 0.3]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32, 2, 2], &Device::Cpu)?;
/// let inputs = Inputs::new().preds(&logits).target(&labels);
/// let mut accuracy = Accuracy::multiclass(3).average(Average::None);
/// assert_eq!(accuracy.call(&inputs)?.to_vec1::<f64>()?, [0., 1., 0.5]);
/// let mut accuracy = Accuracy::multiclass(3).top_k(2);
/// assert_eq!(accuracy.call(&inputs)?.to_scalar::<f64>()?, 1.);
/// # Ok::<(), treex_nn::treex_core::Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Accuracy {
    /// True positives, for each class or label; samples that are right, where a sample counts as a whole.
    pub tp: Leaf<MetricState>,
    /// False positives.
    pub fp: Leaf<MetricState>,
    /// True negatives.
    pub tn: Leaf<MetricState>,
    /// False negatives; samples that are wrong, where a sample counts as a whole.
    #[tree(rename = "fn")]
    pub fn_: Leaf<MetricState>,
    #[tree(skip)]
    task: Task,
    classes: usize,
    threshold: f64,
    #[tree(skip)]
    average: Average,
    top_k: usize,
    ignore_index: Option<i64>,
    subset_accuracy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Binary,
    Multiclass,
    Multilabel,
}

/// How the numbers of the classes, or labels, become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Average {
    /// All predictions count the same.
    #[default]
    Micro,
    /// All classes that were seen count the same.
    Macro,
    /// A class counts as often as it is the target.
    Weighted,
    /// They do not: a number for each.
    None,
}

impl Accuracy {
    /// Of two classes, told by one score.
    #[must_use]
    pub fn binary() -> Self {
        Self::of(Task::Binary, 1)
    }

    /// Of one class among several.
    #[must_use]
    pub fn multiclass(num_classes: usize) -> Self {
        Self::of(Task::Multiclass, num_classes)
    }

    /// Of several labels, each of which is there or not.
    #[must_use]
    pub fn multilabel(num_labels: usize) -> Self {
        Self::of(Task::Multilabel, num_labels)
    }

    fn of(task: Task, classes: usize) -> Self {
        let count = || nothing_yet(classes, DType::I64);
        Self {
            tp: count(),
            fp: count(),
            tn: count(),
            fn_: count(),
            task,
            classes,
            threshold: 0.5,
            average: Average::Micro,
            top_k: 1,
            ignore_index: None,
            subset_accuracy: false,
        }
    }

    /// The score above which a class or label is predicted; 0.5 unless said. Not for `multiclass`.
    #[must_use]
    pub fn threshold(self, threshold: f64) -> Self {
        Self { threshold, ..self }
    }

    /// How the numbers of the classes become one; [`Average::Micro`] unless said. Not for `binary`.
    #[must_use]
    pub fn average(self, average: Average) -> Self {
        Self { average, ..self }
    }

    /// Among how many of the highest scores the target must be; 1 unless said. Of equal scores the first is the
    /// higher. Only for `multiclass`.
    #[must_use]
    pub fn top_k(self, top_k: usize) -> Self {
        Self { top_k, ..self }
    }

    /// A target that does not count; none unless said. It need not be a class.
    #[must_use]
    pub fn ignore_index(self, ignore_index: i64) -> Self {
        Self { ignore_index: Some(ignore_index), ..self }
    }

    /// Whether a sample is right only if all of it is: all labels, or all positions of an item of the batch;
    /// false unless said. Then there is no average over classes. Not for `binary`.
    #[must_use]
    pub fn subset_accuracy(self, subset_accuracy: bool) -> Self {
        Self { subset_accuracy, ..self }
    }

    /// Whether samples are counted as a whole.
    fn counts_samples(&self) -> bool {
        self.subset_accuracy && self.task != Task::Binary
    }

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

    /// What is predicted and what is true, position by position; nothing where it does not count.
    fn pairs(&self, preds: &Tensor, target: &Tensor) -> Result<Vec<Option<(usize, usize)>>> {
        self.check(preds, target)?;
        let integers =
            |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>();
        let targets = integers(target)?;
        let predicted = match self.task {
            // Candle has no largest of nothing.
            _ if targets.is_empty() => Vec::new(),
            _ if preds.dtype().is_int() => integers(preds)?,
            Task::Multiclass if self.top_k == 1 => integers(&preds.argmax(D::Minus1)?)?,
            Task::Multiclass => self.nearest(preds, &targets)?,
            _ => integers(&preds.gt(self.threshold)?)?,
        };
        let values = if self.task == Task::Multiclass { self.classes } else { 2 };
        let class = |value: i64, what: &str| {
            usize::try_from(value).ok().filter(|class| *class < values).ok_or_else(|| {
                Error::argument(format!("`Accuracy` got a {what} that is no class"))
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

    /// The target where it is among the `top_k` highest scores, otherwise the class of the highest.
    fn nearest(&self, scores: &Tensor, targets: &[i64]) -> Result<Vec<i64>> {
        let scores = scores.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let nearest = |(scores, &target): (&[f64], &i64)| {
            let above = |class: usize| {
                let own = scores[class];
                let before = scores[..class].iter().filter(|score| **score >= own).count();
                before + scores[class + 1..].iter().filter(|score| **score > own).count()
            };
            let highest = || (0..scores.len()).find(|&class| above(class) == 0).unwrap_or(0) as i64;
            // A NaN is above nothing.
            let known =
                usize::try_from(target).ok().filter(|&class| scores.get(class).is_some_and(|x| !x.is_nan()));
            if known.is_some_and(|class| above(class) < self.top_k) { target } else { highest() }
        };
        Ok(scores.chunks_exact(self.classes).zip(targets).map(nearest).collect())
    }

    /// True and false positives, true and false negatives among the pairs of so many samples.
    fn counts(&self, pairs: &[Option<(usize, usize)>], samples: usize) -> [Vec<i64>; 4] {
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

impl Metric for Accuracy {
    fn observe(&mut self, inputs: &Inputs) -> Result<()> {
        let (preds, target) = inputs.get_pair("Accuracy")?;
        let pairs = self.pairs(preds, target).map_err(|error| error.of(self))?;
        let samples = target.dims().first().copied().unwrap_or(1);
        let [tp, fp, tn, fn_] = self.counts(&pairs, samples);
        let tensor = |counts: Vec<i64>| Tensor::new(counts, &Device::Cpu);
        add([
            (&mut self.tp, tensor(tp)?),
            (&mut self.fp, tensor(fp)?),
            (&mut self.tn, tensor(tn)?),
            (&mut self.fn_, tensor(fn_)?),
        ])
    }

    fn compute(&self) -> Result<Tensor> {
        let counts = |leaf| match value(leaf)?.to_dtype(DType::F64)?.to_vec1::<f64>()? {
            counts if counts.len() == self.classes => Ok(counts),
            counts => Err(Error::shape("`Accuracy` has counts for another number of classes")
                .expected(self.classes)
                .found(counts.len())
                .of(self)),
        };
        let (tp, fp, tn, fn_) = (counts(&self.tp)?, counts(&self.fp)?, counts(&self.tn)?, counts(&self.fn_)?);
        let of_classes = self.task == Task::Multiclass || self.counts_samples();
        let right_and_all = |class: usize| match of_classes {
            true => (tp[class], tp[class] + fn_[class]),
            false => (tp[class] + tn[class], tp[class] + tn[class] + fp[class] + fn_[class]),
        };
        let share = |(right, all): (f64, f64)| if all == 0. { 0. } else { right / all };
        let weighted = |weight: &dyn Fn(usize) -> f64| {
            let sum = |term: &dyn Fn(usize) -> f64| (0..self.classes).map(term).sum::<f64>();
            share((sum(&|class| weight(class) * share(right_and_all(class))), sum(weight)))
        };
        let seen = |class: usize| {
            let others = if self.top_k == 1 { fp[class] } else { 0. };
            if of_classes && tp[class] + fn_[class] + others == 0. { 0. } else { 1. }
        };
        let average = if self.counts_samples() { Average::Micro } else { self.average };
        let accuracy = match average {
            Average::None if self.task != Task::Binary => {
                return Ok(Tensor::from_iter((0..self.classes).map(right_and_all).map(share), &Device::Cpu)?);
            }
            Average::Macro => weighted(&seen),
            Average::Weighted if self.task != Task::Binary => weighted(&|class| tp[class] + fn_[class]),
            _ => share((0..self.classes).map(right_and_all).fold((0., 0.), |a, b| (a.0 + b.0, a.1 + b.1))),
        };
        Ok(Tensor::new(accuracy, &Device::Cpu)?)
    }
}
