//! Connectionist temporal classification.

use candle_core::{DType, Device, Tensor};
use treex_core::autograd::is_reference;
use treex_core::transfers::transfer;
use treex_core::{Error, Result};

use super::{Over, widened};
use crate::numerics::wide;
use crate::transfer::{ON_HOST, to_device_of, to_vec_f64};

mod alignments;
mod options;
mod reference;

use alignments::{Alignments, Sequence};
pub use options::Ctc;

/// The results of [`ctc_loss_with_forward_probs`].
#[derive(Clone, Debug)]
pub struct CtcForward {
    /// The loss of each sequence: `[batch]`.
    pub loss: Tensor,
    /// The logarithm of the probability that the first `n` labels were emitted by frame `t`, which is a
    /// blank: `[frames, batch, labels + 1]`. Not differentiated.
    pub logalpha_blank: Tensor,
    /// The same, with a frame that emits label `n`: `[frames, batch, labels]`. Not differentiated.
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

/// Connectionist temporal classification: the negative log-likelihood of the labels, each emitted at one or
/// more consecutive frames, with optional blanks between them, required between two equal labels.
///
/// - `logits`: `[batch, frames, classes]`, one of the classes being the blank
/// - `logit_paddings`: `[batch, frames]`, 1 for padding, else 0, in any element type
/// - `labels`: `[batch, labels]`, class indices in any element type
/// - `label_paddings`: `[batch, labels]`, 0 for labels, 1 for padding after the last one
///
/// A sequence with too few frames for its labels has a loss around `-log_epsilon`. The sums over
/// alignments run on the CPU, in f64, and so do their gradients.
///
/// Graves et al., [Connectionist Temporal
/// Classification](https://dl.acm.org/doi/abs/10.1145/1143844.1143891), 2006.
///
/// # Errors
/// If shapes do not fit, logits are not floats, there are no frames, `blank_id` or a label is not the number
/// of a class, or a padding is neither 0 nor 1, or precedes a label.
pub fn ctc_loss_with_forward_probs(
    logits: &Tensor,
    logit_paddings: &Tensor,
    labels: &Tensor,
    label_paddings: &Tensor,
    options: Ctc,
) -> Result<CtcForward> {
    let (log_probs, sequences) = prepare(logits, logit_paddings, labels, label_paddings, options)?;
    let (batch, frames, classes) = log_probs.dims3()?;
    let values = to_vec_f64(&log_probs)?;
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
        to_device_of(&tensor.to_dtype(wide(logits.dtype()))?, logits)
    };
    Ok(CtcForward {
        loss: sum_alignments(&log_probs, sequences, logits)?,
        logalpha_blank: like_logits(blank, count + 1)?,
        logalpha_nonblank: like_logits(nonblank, count)?,
    })
}

fn sum_alignments(log_probs: &Tensor, sequences: Vec<Sequence>, logits: &Tensor) -> Result<Tensor> {
    let losses = match is_reference() {
        true => reference::losses(log_probs, &sequences)?,
        false => log_probs.apply_op1(Alignments { sequences })?,
    };
    to_device_of(&losses.to_dtype(wide(logits.dtype()))?, logits)
}

/// The log-probabilities on the CPU, in f64, and the labels to align.
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
        return Err(Error::argument(format!("`blank_id` of `{name}` is not a class index"))
            .expected(format!("less than {classes}"))
            .found(options.blank_id));
    }
    let (pads, frame_pads, labels) =
        (to_vec_f64(label_paddings)?, to_vec_f64(logit_paddings)?, to_vec_f64(labels)?);
    let sequences = frame_pads.chunks_exact(frames).enumerate().map(|(index, frame_pads)| {
        let range = index * count..(index + 1) * count;
        Sequence::new(&labels[range.clone()], &pads[range], frame_pads, classes, options)
    });
    let sequences = sequences.collect::<Result<_>>()?;
    let log_probs = Over::default().of(name, &logits)?.log_softmax(&logits)?;
    let log_probs = transfer(&log_probs, &Device::Cpu, ON_HOST)?;
    Ok((log_probs.to_dtype(DType::F64)?, sequences))
}
