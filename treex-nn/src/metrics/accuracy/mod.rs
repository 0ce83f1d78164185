//! How often the model is right.

mod counts;

use candle_core::{DType, Device, Tensor};
use treex_core::{Error, Leaf, MetricState, Result, TreeObject};

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
}

impl Metric for Accuracy {
    fn observe(&mut self, inputs: &Inputs) -> Result<()> {
        let (preds, target) = inputs.get_pair("Accuracy")?;
        let pairs = self.pairs(&preds, &target).map_err(|error| error.of(self.identity()))?;
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
                .of(self.identity())),
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
