//! Labels whose places in a sequence are not known.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result as CandleResult, Shape, Tensor};
use treex_core::{Error, Result};

use super::{Over, widened};
use crate::host::numbers;
use crate::numerics::wide;

/// The options of [`ctc_loss_with_forward_probs`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ctc {
    blank_id: usize,
    log_epsilon: f64,
}

impl Default for Ctc {
    /// `blank_id = 0`, `log_epsilon = -1e5`.
    fn default() -> Self {
        Self { blank_id: 0, log_epsilon: -1e5 }
    }
}

impl Ctc {
    /// The class that means no label.
    #[must_use]
    pub fn blank_id(self, blank_id: usize) -> Self {
        Self { blank_id, ..self }
    }

    /// What stands for the logarithm of 0.
    #[must_use]
    pub fn log_epsilon(self, log_epsilon: f64) -> Self {
        Self { log_epsilon, ..self }
    }
}

/// What [`ctc_loss_with_forward_probs`] finds.
#[derive(Clone, Debug)]
pub struct CtcForward {
    /// The loss of each sequence: `[batch]`.
    pub loss: Tensor,
    /// The logarithm of the probability that the first `n` labels were told by frame `t`, which is a blank:
    /// `[frames, batch, labels + 1]`. Not differentiated.
    pub logalpha_blank: Tensor,
    /// The same, with a frame that tells label `n`: `[frames, batch, labels]`. Not differentiated.
    pub logalpha_nonblank: Tensor,
}

/// The loss of [`ctc_loss_with_forward_probs`] with the default options: `[batch]`.
///
/// # Errors
/// As `ctc_loss_with_forward_probs`.
pub fn ctc_loss(
    logits: &Tensor,
    logit_paddings: &Tensor,
    labels: &Tensor,
    label_paddings: &Tensor,
) -> Result<Tensor> {
    let (log_probs, sequences) = prepare(logits, logit_paddings, labels, label_paddings, Ctc::default())?;
    sum_alignments(&log_probs, sequences, logits)
}

/// Connectionist temporal classification: less the logarithm of the probability that the frames tell the
/// labels, each at one or several frames in a row, with blanks between them where there are any, and always
/// between two labels that are equal.
///
/// - `logits`: `[batch, frames, classes]`, one of the classes being the blank
/// - `logit_paddings`: `[batch, frames]`, 1 for frames that do not count, else 0, in any element type
/// - `labels`: `[batch, labels]`, numbers of classes in any element type
/// - `label_paddings`: `[batch, labels]`, 0 for labels and 1 for what stands behind the last one
///
/// A sequence with fewer frames than its labels need has a loss around `-log_epsilon`. The sums over alignments
/// run on the host, in f64, and so do their gradients.
///
/// Graves et al., [Connectionist Temporal
/// Classification](https://dl.acm.org/doi/abs/10.1145/1143844.1143891), 2006.
///
/// # Errors
/// If shapes do not fit, logits are not floats, there are no frames, `blank_id` or a label is not the number of a
/// class, or a padding is neither 0 nor 1, or stands before a label.
pub fn ctc_loss_with_forward_probs(
    logits: &Tensor,
    logit_paddings: &Tensor,
    labels: &Tensor,
    label_paddings: &Tensor,
    options: Ctc,
) -> Result<CtcForward> {
    let (log_probs, sequences) = prepare(logits, logit_paddings, labels, label_paddings, options)?;
    let (batch, frames, classes) = log_probs.dims3()?;
    let values = numbers(&log_probs)?;
    let told: Vec<_> = sequences
        .iter()
        .zip(values.chunks_exact(frames * classes))
        .map(|(s, values)| s.told(values))
        .collect();
    let (mut blank, mut nonblank) = (Vec::new(), Vec::new());
    for frame in 1..=frames {
        for (sequence, told) in sequences.iter().zip(&told) {
            let last = frame == frames;
            blank.extend(if last { sequence.ends(&told[frame]) } else { told[frame].blank.clone() });
            nonblank.extend(&told[frame].label);
        }
    }
    let count = labels.dim(1)?;
    let like_logits = |values, width| -> Result<Tensor> {
        let tensor = Tensor::from_vec(values, (frames, batch, width), &Device::Cpu)?;
        Ok(tensor.to_dtype(wide(logits.dtype()))?.to_device(logits.device())?)
    };
    Ok(CtcForward {
        loss: sum_alignments(&log_probs, sequences, logits)?,
        logalpha_blank: like_logits(blank, count + 1)?,
        logalpha_nonblank: like_logits(nonblank, count)?,
    })
}

fn sum_alignments(log_probs: &Tensor, sequences: Vec<Sequence>, logits: &Tensor) -> Result<Tensor> {
    let losses = log_probs.apply_op1(Alignments { sequences })?;
    Ok(losses.to_dtype(wide(logits.dtype()))?.to_device(logits.device())?)
}

/// The logarithms of the probabilities on the host, in f64, and what is to be told in them.
fn prepare(
    logits: &Tensor,
    logit_paddings: &Tensor,
    labels: &Tensor,
    label_paddings: &Tensor,
    options: Ctc,
) -> Result<(Tensor, Vec<Sequence>)> {
    let name = "ctc_loss";
    let logits = widened(name, "logits", logits)?;
    let (frames, classes, count) = match (logits.dims(), labels.dims()) {
        (&[batch, frames, classes], &[same, count])
            if batch == same
                && frames > 0
                && logit_paddings.dims() == [batch, frames]
                && label_paddings.dims() == [batch, count] =>
        {
            (frames, classes, count)
        }
        _ => {
            let found = [&logits, logit_paddings, labels, label_paddings].map(Tensor::dims);
            return Err(Error::shape(format!("`{name}` got tensors that do not fit"))
                .expected("[batch, frames, classes], [batch, frames], [batch, labels], [batch, labels]")
                .found(format!("{found:?}")));
        }
    };
    if options.blank_id >= classes {
        return Err(Error::argument(format!("`blank_id` of `{name}` is not the number of a class"))
            .expected(format!("less than {classes}"))
            .found(options.blank_id));
    }
    let (pads, frame_pads, labels) = (numbers(label_paddings)?, numbers(logit_paddings)?, numbers(labels)?);
    let sequences = frame_pads.chunks_exact(frames).enumerate().map(|(index, frame_pads)| {
        let range = index * count..(index + 1) * count;
        Sequence::new(&labels[range.clone()], &pads[range], frame_pads, classes, options)
    });
    let sequences = sequences.collect::<Result<_>>()?;
    let log_probs = Over::default().of(name, &logits)?.log_softmax(&logits)?;
    Ok((log_probs.to_device(&Device::Cpu)?.to_dtype(DType::F64)?, sequences))
}

/// What one sequence is to tell.
struct Sequence {
    /// The class of each label; what stands behind the last one may be none.
    labels: Vec<Option<usize>>,
    /// How many of them are to be told.
    len: usize,
    /// Whether the next label is the same.
    repeats: Vec<bool>,
    /// Whether a frame does not count.
    frame_pads: Vec<bool>,
    options: Ctc,
}

/// Logarithms of the probabilities of having told the first `n` labels: with a blank last, for `n` from 0 on, or
/// with a label last, for `n` from 1 on.
#[derive(Clone)]
struct Told {
    blank: Vec<f64>,
    label: Vec<f64>,
}

impl Sequence {
    fn new(labels: &[f64], pads: &[f64], frame_pads: &[f64], classes: usize, options: Ctc) -> Result<Self> {
        let is_padding = |&pad: &f64| match pad {
            0. => Ok(false),
            1. => Ok(true),
            other => Err(Error::argument("`ctc_loss` got a padding that is neither 0 nor 1")
                .expected("1 for what does not count, else 0")
                .found(other)),
        };
        let pads = pads.iter().map(is_padding).collect::<Result<Vec<_>>>()?;
        let len = pads.iter().take_while(|&&pad| !pad).count();
        if pads[len..].iter().any(|pad| !pad) {
            return Err(Error::argument("`ctc_loss` got a padding before a label")
                .expected("paddings of labels such as [0, 0, 1]")
                .remedy("move the labels of each sequence to the left"));
        }
        let class = |&label: &f64| (label >= 0. && label < classes as f64).then_some(label as usize);
        let numbers: Vec<_> = labels.iter().map(class).collect();
        if let Some(index) = numbers[..len].iter().position(Option::is_none) {
            return Err(Error::argument("`ctc_loss` got a label that is not the number of a class")
                .expected(format!("labels from 0 to {}", classes - 1))
                .found(labels[index]));
        }
        let same = labels.windows(2).map(|pair| pair[0] == pair[1]);
        Ok(Self {
            labels: numbers,
            len,
            repeats: same.chain([false]).take(labels.len()).collect(),
            frame_pads: frame_pads.iter().map(is_padding).collect::<Result<_>>()?,
            options,
        })
    }

    /// Nothing told yet, as if after a blank.
    fn start(&self) -> Told {
        let (count, never) = (self.labels.len(), self.options.log_epsilon);
        let mut blank = vec![never; count + 1];
        blank[0] = 0.;
        Told { blank, label: vec![never; count] }
    }

    /// `log_epsilon` if a way is closed.
    fn toll(&self, closed: bool) -> f64 {
        if closed { self.options.log_epsilon } else { 0. }
    }

    /// After which labels a new one may start: after a blank, or straight after another label.
    fn ready(&self, told: &Told) -> Vec<f64> {
        let mut ready = told.blank.clone();
        for (n, label) in told.label.iter().enumerate() {
            ready[n + 1] = log_add_exp(ready[n + 1], label + self.toll(self.repeats[n]));
        }
        ready
    }

    fn log_prob(&self, n: usize, frame: &[f64]) -> f64 {
        self.labels[n].map_or(0., |class| frame[class])
    }

    /// The state after each frame, from before the first on.
    fn told(&self, log_probs: &[f64]) -> Vec<Told> {
        let mut all = vec![self.start()];
        for (frame, &padded) in
            log_probs.chunks_exact(log_probs.len() / self.frame_pads.len()).zip(&self.frame_pads)
        {
            let told = &all[all.len() - 1];
            let next = if padded { told.clone() } else { self.next(told, frame) };
            all.push(next);
        }
        all
    }

    fn next(&self, told: &Told, frame: &[f64]) -> Told {
        let (ready, log_blank) = (self.ready(told), frame[self.options.blank_id]);
        let mut next =
            Told { blank: ready.iter().map(|ready| ready + log_blank).collect(), label: Vec::new() };
        for (n, &label) in told.label.iter().enumerate() {
            let log_prob = self.log_prob(n, frame);
            next.label.push(log_add_exp(ready[n] + log_prob, label + log_prob));
            let rest = label + log_blank + self.toll(!self.repeats[n]);
            next.blank[n + 1] = log_add_exp(next.blank[n + 1], rest);
        }
        next
    }

    /// The ends: with a blank last or without.
    fn ends(&self, told: &Told) -> Vec<f64> {
        let mut ends = told.blank.clone();
        for (n, &label) in told.label.iter().enumerate() {
            ends[n + 1] = log_add_exp(ends[n + 1], label);
        }
        ends
    }

    fn loss(&self, log_probs: &[f64]) -> f64 {
        let told = self.told(log_probs);
        -self.ends(&told[told.len() - 1])[self.len]
    }

    /// Adds the derivatives of the loss by each logarithm, times `grad`: [`next`](Self::next), backwards.
    fn backward(&self, log_probs: &[f64], grad: f64, grads: &mut [f64]) {
        let told = self.told(log_probs);
        let (classes, len) = (log_probs.len() / self.frame_pads.len(), self.len);
        let last = &told[told.len() - 1];
        let mut outer = Told { blank: vec![0.; self.labels.len() + 1], label: vec![0.; self.labels.len()] };
        outer.blank[len] = -grad;
        if len > 0 {
            let end = log_add_exp(last.blank[len], last.label[len - 1]);
            outer.blank[len] = -grad * share(last.blank[len], end);
            outer.label[len - 1] = -grad * share(last.label[len - 1], end);
        }
        for (index, &padded) in self.frame_pads.iter().enumerate().rev() {
            if padded {
                continue;
            }
            let (before, after) = (&told[index], &told[index + 1]);
            let frame = &log_probs[index * classes..][..classes];
            let grads = &mut grads[index * classes..][..classes];
            let (ready, log_blank) = (self.ready(before), frame[self.options.blank_id]);
            let mut inner = Told { blank: vec![0.; outer.blank.len()], label: vec![0.; outer.label.len()] };
            for (n, (&ready, &by)) in ready.iter().zip(&outer.blank).enumerate() {
                // Only what can still get to the end.
                if by != 0. {
                    let stays = by * share(ready + log_blank, after.blank[n]);
                    inner.blank[n] += stays;
                    grads[self.options.blank_id] += stays;
                    if n > 0 {
                        let rest = before.label[n - 1] + log_blank + self.toll(!self.repeats[n - 1]);
                        let rests = by * share(rest, after.blank[n]);
                        inner.label[n - 1] += rests;
                        grads[self.options.blank_id] += rests;
                    }
                }
                if let Some(&by) = outer.label.get(n)
                    && by != 0.
                {
                    let log_prob = self.log_prob(n, frame);
                    let starts = by * share(ready + log_prob, after.label[n]);
                    let goes_on = by * share(before.label[n] + log_prob, after.label[n]);
                    inner.blank[n] += starts;
                    inner.label[n] += goes_on;
                    if let Some(class) = self.labels[n] {
                        grads[class] += starts + goes_on;
                    }
                }
            }
            // What was ready is a blank, or the label before.
            for (n, &ready) in ready.iter().enumerate().skip(1) {
                let by = inner.blank[n];
                inner.blank[n] = by * share(before.blank[n], ready);
                let label = before.label[n - 1] + self.toll(self.repeats[n - 1]);
                inner.label[n - 1] += by * share(label, ready);
            }
            outer = inner;
        }
    }
}

/// `log(exp(a) + exp(b))`.
fn log_add_exp(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if large == f64::NEG_INFINITY { large } else { large + (small - large).exp().ln_1p() }
}

/// `exp(part) / exp(whole)`.
fn share(part: f64, whole: f64) -> f64 {
    if whole == f64::NEG_INFINITY { 0. } else { (part - whole).exp() }
}

/// `[batch, frames, classes]` to the losses, `[batch]`. As Candle operations, each frame would add to the depth
/// of a graph that is walked recursively.
struct Alignments {
    sequences: Vec<Sequence>,
}

impl CustomOp1 for Alignments {
    fn name(&self) -> &'static str {
        "ctc-alignments"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> CandleResult<(CpuStorage, Shape)> {
        let (CpuStorage::F64(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("alignments are summed over contiguous f64");
        };
        let (_, frames, classes) = layout.shape().dims3()?;
        let values = values[start..end].chunks_exact(frames * classes);
        let losses: Vec<_> = self.sequences.iter().zip(values).map(|(s, values)| s.loss(values)).collect();
        let shape = Shape::from(losses.len());
        Ok((CpuStorage::F64(losses), shape))
    }

    fn bwd(&self, log_probs: &Tensor, _: &Tensor, grad: &Tensor) -> CandleResult<Option<Tensor>> {
        let (_, frames, classes) = log_probs.dims3()?;
        let (values, by) = (log_probs.flatten_all()?.to_vec1::<f64>()?, grad.to_vec1::<f64>()?);
        let mut grads = vec![0.; values.len()];
        let parts = values.chunks_exact(frames * classes).zip(grads.chunks_exact_mut(frames * classes));
        for ((sequence, by), (values, grads)) in self.sequences.iter().zip(by).zip(parts) {
            sequence.backward(values, by, grads);
        }
        Ok(Some(Tensor::from_vec(grads, log_probs.shape(), &Device::Cpu)?))
    }
}
