//! The sums over all alignments of labels to frames, forward and backward.

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result as CandleResult, Shape, Tensor};
use treex_core::{Error, Result};

use super::options::Ctc;

/// The labels of one sequence.
pub(super) struct Sequence {
    /// The class of each label; entries after the last label may be invalid.
    pub(super) labels: Vec<Option<usize>>,
    /// The number of labels.
    pub(super) len: usize,
    /// Whether the next label is the same.
    pub(super) repeats: Vec<bool>,
    /// Whether a frame is padding.
    pub(super) frame_pads: Vec<bool>,
    pub(super) options: Ctc,
}

/// Log-probabilities of having emitted the first `n` labels: with a blank last, for `n` from 0 on, or with
/// a label last, for `n` from 1 on.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) blank: Vec<f64>,
    pub(super) label: Vec<f64>,
}

impl Sequence {
    pub(super) fn new(
        labels: &[f64],
        pads: &[f64],
        frame_pads: &[f64],
        classes: usize,
        options: Ctc,
    ) -> Result<Self> {
        let is_padding = |&pad: &f64| match pad {
            0. => Ok(false),
            1. => Ok(true),
            other => Err(Error::argument("`ctc_loss` got a padding that is neither 0 nor 1")
                .expected("1 for padding, else 0")
                .found(other)),
        };
        let pads = pads.iter().map(is_padding).collect::<Result<Vec<_>>>()?;
        let len = pads.iter().take_while(|&&pad| !pad).count();
        if pads[len..].iter().any(|pad| !pad) {
            return Err(Error::argument("`ctc_loss` got a padding before a label")
                .expected("paddings of labels such as [0, 0, 1]")
                .remedy("move the labels of each sequence to the left"));
        }
        let numbers_class = |label: f64| label >= 0. && label < classes as f64 && label.fract() == 0.;
        let class = |&label: &f64| numbers_class(label).then_some(label as usize);
        let numbers: Vec<_> = labels.iter().map(class).collect();
        if let Some(index) = numbers[..len].iter().position(Option::is_none) {
            return Err(Error::argument("`ctc_loss` got a label that is not a class index")
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

    /// No label emitted, as if after a blank.
    fn start(&self) -> Told {
        let (count, never) = (self.labels.len(), self.options.log_epsilon);
        let mut blank = vec![never; count + 1];
        blank[0] = 0.;
        Told { blank, label: vec![never; count] }
    }

    /// `log_epsilon` if a transition is not allowed.
    pub(super) fn toll(&self, closed: bool) -> f64 {
        if closed { self.options.log_epsilon } else { 0. }
    }

    /// The states from which a new label may start: after a blank, or directly after a different label.
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
    pub(super) fn told(&self, log_probs: &[f64]) -> Vec<Told> {
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
    pub(super) fn ends(&self, told: &Told) -> Vec<f64> {
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
                // Only states that can reach the end.
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
            // The previous state is a blank, or the previous label.
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

/// `[batch, frames, classes]` to the losses, `[batch]`. As Candle operations, each frame would deepen a
/// graph that is traversed recursively.
pub(super) struct Alignments {
    pub(super) sequences: Vec<Sequence>,
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
