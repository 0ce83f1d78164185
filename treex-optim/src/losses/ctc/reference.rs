//! The sums over all alignments as Candle operations: the oracle of [`super::alignments`], and what is differentiated
//! inside of another derivative.

use candle_core::{Device, Tensor};
use treex_core::Result;

use super::alignments::Sequence;
use crate::transfer::constant_like;

/// `[batch, frames, classes]` to the losses, `[batch]`.
pub(super) fn losses(log_probs: &Tensor, sequences: &[Sequence]) -> Result<Tensor> {
    let (batch, frames, _) = log_probs.dims3()?;
    let Some(first) = sequences.first() else { return Ok(log_probs.sum((1, 2))?) };
    let (count, never) = (first.labels.len(), first.options.log_epsilon);
    let column = |of: &dyn Fn(&Sequence, usize) -> f64| -> Result<Tensor> {
        let values = sequences.iter().flat_map(|s| (0..count).map(move |n| of(s, n)));
        Ok(Tensor::from_iter(values, &Device::Cpu)?.reshape((batch, count))?)
    };
    let starts = column(&|s, n| s.toll(s.repeats[n]))?;
    let rests = column(&|s, n| s.toll(!s.repeats[n]))?;
    let label_probs = of_labels(log_probs, sequences)?;

    let mut label = Tensor::full(never, (batch, count), &Device::Cpu)?;
    let mut blank =
        Tensor::cat(&[Tensor::zeros((batch, 1), label.dtype(), &Device::Cpu)?, label.clone()], 1)?;
    for frame in 0..frames {
        let pads: Vec<_> = sequences.iter().map(|s| u8::from(s.frame_pads[frame])).collect();
        let pads = Tensor::from_vec(pads, (batch, 1), &Device::Cpu)?;
        let keep = |old: &Tensor, new: &Tensor| pads.broadcast_as(old.shape())?.where_cond(old, new);
        let of_frame =
            |x: &Tensor, from: usize, len: usize| x.narrow(1, frame, 1)?.squeeze(1)?.narrow(1, from, len);
        let log_blank = of_frame(log_probs, first.options.blank_id, 1)?;
        let log_label = of_frame(&label_probs, 0, count)?;

        let ready = or_after_label(&blank, &(&label + &starts)?)?;
        let rested = (label.broadcast_add(&log_blank)? + &rests)?;
        let next_blank = or_after_label(&ready.broadcast_add(&log_blank)?, &rested)?;
        let next_label = log_add_exp(&(ready.narrow(1, 0, count)? + &log_label)?, &(&label + &log_label)?)?;
        (blank, label) = (keep(&blank, &next_blank)?, keep(&label, &next_label)?);
    }
    let ends = or_after_label(&blank, &label)?;
    let lens = sequences.iter().enumerate().map(|(index, s)| (index * (count + 1) + s.len) as i64);
    Ok(ends.flatten_all()?.index_select(&Tensor::from_iter(lens, &Device::Cpu)?, 0)?.neg()?)
}

/// The log-probability of each label at each frame: `[batch, frames, labels]`, 0 for one that is padding.
fn of_labels(log_probs: &Tensor, sequences: &[Sequence]) -> Result<Tensor> {
    let (batch, frames, classes) = log_probs.dims3()?;
    let count = sequences.first().map_or(0, |s| s.labels.len());
    let (mut places, mut known) = (Vec::new(), Vec::new());
    for (index, sequence) in sequences.iter().enumerate() {
        for frame in 0..frames {
            let start = (index * frames + frame) * classes;
            places.extend(sequence.labels.iter().map(|label| (start + label.unwrap_or(0)) as i64));
            known.extend(sequence.labels.iter().map(|label| u8::from(label.is_some())));
        }
    }
    // Candle cannot differentiate the gradient of `gather`.
    let places = Tensor::from_vec(places, batch * frames * count, &Device::Cpu)?;
    let values = log_probs.contiguous()?.flatten_all()?.index_select(&places, 0)?;
    let known = Tensor::from_vec(known, values.shape(), &Device::Cpu)?;
    Ok(known.where_cond(&values, &values.zeros_like()?)?.reshape((batch, frames, count))?)
}

/// `[batch, labels + 1]`, and after the first column `[batch, labels]` added to it.
fn or_after_label(blank: &Tensor, label: &Tensor) -> Result<Tensor> {
    let rest = blank.narrow(1, 1, label.dim(1)?)?;
    Ok(Tensor::cat(&[blank.narrow(1, 0, 1)?, log_add_exp(&rest, label)?], 1)?)
}

/// `log(exp(a) + exp(b))`, with a gradient of 0 where both are minus infinity.
fn log_add_exp(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let never = constant_like(f64::NEG_INFINITY, a)?;
    let larger = a.maximum(b)?.detach();
    let is_never = larger.eq(&never)?;
    let larger = is_never.where_cond(&larger.zeros_like()?, &larger)?;
    let sum = ((a - &larger)?.exp()? + (b - &larger)?.exp()?)?;
    let sum = is_never.where_cond(&sum.ones_like()?, &sum)?;
    Ok(is_never.where_cond(&never, &(sum.log()? + larger)?)?)
}
