//! The steps of a sequence, and the run of a cell over them.

use candle_core::{DType, Device, Tensor};
use treex_core::autograd::is_reference;
use treex_core::constants::arange;
use treex_core::device::has_kernels;
use treex_core::indices::Checked;
use treex_core::transfers::transfer;
use treex_core::{Error, Key, Result, record, scan};

use super::cell::{Carry, RnnCell, check_carry, with_tensors};
use crate::ops::recurrent::order::Order;

/// `x` with dimension `from` moved to `to`, contiguous.
fn move_axis(x: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    if from == to {
        return Ok(x.clone());
    }
    let mut order: Vec<_> = (0..x.rank()).collect();
    let axis = order.remove(from);
    order.insert(to, axis);
    Ok(x.permute(order)?.contiguous()?)
}

/// The options of [`Rnn`](crate::Rnn): how to go through a sequence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RnnOptions {
    pub(super) time_major: bool,
    pub(super) reverse: bool,
    pub(super) keep_order: bool,
    pub(super) init_key: Option<Key>,
}

/// The time axis of a sequence, and the order of its steps.
pub(super) struct Steps {
    axis: usize,
    /// Its lengths are those that are on the host.
    order: Order,
    /// Lengths that are on the device of the sequence, where they stay: `[items]`.
    lengths: Option<Checked>,
}

impl Steps {
    pub(super) fn of(
        x: &Tensor,
        feature_axes: usize,
        RnnOptions { time_major, reverse, keep_order, .. }: RnnOptions,
        seq_lengths: Option<&Tensor>,
    ) -> Result<Self> {
        let axis = if time_major { 0 } else { x.rank().saturating_sub(feature_axes + 1) };
        let time = x.dims().get(axis).copied().unwrap_or(0);
        if x.rank() <= feature_axes || time == 0 {
            let features = if feature_axes == 1 { "features" } else { "*spatial, features" };
            return Err(Error::shape("`Rnn` got an input without steps")
                .expected(match time_major {
                    true => format!("[time, batch.., {features}]"),
                    false => format!("[batch.., time, {features}]"),
                })
                .found(format!("{:?}", x.dims())));
        }
        let mut batch = x.dims()[..x.rank() - feature_axes].to_vec();
        batch.remove(axis);
        seq_lengths.map(|lengths| check_lengths(lengths, &batch, time)).transpose()?;
        let stay = |lengths: &&Tensor| {
            !lengths.device().is_cpu() && !x.device().is_cpu() && lengths.elem_count() > 0
        };
        let on_host = seq_lengths.filter(|lengths| !stay(lengths));
        let on_host = on_host.map(|lengths| lengths_of(lengths, &batch, time)).transpose()?;
        let on_device = seq_lengths.filter(stay).map(|lengths| -> Result<_> {
            let instead = "make the lengths on the device of the sequence";
            Checked::new(&transfer(&lengths.flatten_all()?, x.device(), instead)?, time + 1, false)
        });
        let items = batch.iter().product();
        let order = Order { time, items, time_major, reverse, keep_order, lengths: on_host };
        Ok(Self { axis, order, lengths: on_device.transpose()? })
    }

    /// The first step of `x`, as a sample of its shape.
    pub(super) fn sample(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.detach().narrow(self.axis, 0, 1)?.squeeze(self.axis)?)
    }

    /// `x` with time reversed; where there are lengths, only within them.
    fn flip(&self, x: &Tensor) -> Result<Tensor> {
        match (&self.order.lengths, &self.lengths) {
            // Candle's `flip` needs a contiguous tensor.
            (None, None) => Ok(x.contiguous()?.flip(&[self.axis])?),
            (Some(_), _) => select_rows(x, &on_device_of(x, self.order.mirror()?)?, x.dims()),
            (None, Some(lengths)) => select_rows(x, &self.mirror(&lengths.indices)?, x.dims()),
        }
    }

    /// [`Order::mirror`] for lengths that are on a device.
    fn mirror(&self, lengths: &Tensor) -> Result<Tensor> {
        let Order { time, items, time_major, .. } = self.order;
        let device = lengths.device();
        // `(time - 1 - step + length) % time`, of numbers below `2 * time`.
        let from_the_end = arange(time, device)?.affine(-1., time as f64 - 1.)?;
        let sums = lengths.reshape((items, 1))?.broadcast_add(&from_the_end)?;
        let wrapped = sums.affine(1., -(time as f64))?;
        let steps = wrapped.ge(&wrapped.zeros_like()?)?.where_cond(&wrapped, &sums)?;
        let item = arange(items, device)?.reshape((items, 1))?;
        let rows = match time_major {
            true => steps.affine(items as f64, 0.)?.broadcast_add(&item)?.t()?,
            false => steps.broadcast_add(&item.affine(time as f64, 0.)?)?,
        };
        Ok(rows.flatten_all()?)
    }

    /// Runs `cell` over all steps: the carry of each sequence at its end, and the outputs, laid out like the
    /// inputs.
    pub(super) fn run<C: RnnCell>(
        &self,
        cell: &mut C,
        carry: &C::Carry,
        x: &Tensor,
    ) -> Result<(C::Carry, Tensor)> {
        if let Some(all) = self.run_fused(cell, carry, x)? {
            return Ok(all);
        }
        let x = if self.order.reverse { self.flip(x)? } else { x.clone() };
        let (carry, mut y) = self.run_one_by_one(cell, carry, &move_axis(&x, self.axis, 0)?)?;
        if let Some(lengths) = &self.lengths {
            // A length that is out of range has no outputs.
            let Order { time, items, .. } = self.order;
            let steps = y.reshape((time, items, y.elem_count() / (time * items)))?;
            y = lengths.or_nan(&steps, 1)?.reshape(y.shape())?;
        }
        let y = move_axis(&y, 0, self.axis)?;
        let y = if self.order.reverse && self.order.keep_order { self.flip(&y)? } else { y };
        Ok((carry, y))
    }

    /// All steps as one fused operation; `None` where it does not cover the cell.
    fn run_fused<C: RnnCell>(
        &self,
        cell: &C,
        carry: &C::Carry,
        x: &Tensor,
    ) -> Result<Option<(C::Carry, Tensor)>> {
        let Some(fused) = cell.fused().filter(|_| !is_reference() && x.device().is_cpu()) else {
            return Ok(None);
        };
        let sample = self.sample(x)?;
        check_carry(cell, carry, &sample, fused.features)?;
        let tensors: Vec<_> = carry.tensors().into_iter().cloned().collect();
        let Some(h) = tensors.last() else { return Ok(None) };
        let Some(operands) = fused.operands(x, &sample, &tensors)? else { return Ok(None) };
        let (last, y) = fused.run(&self.order, &operands)?;
        record(cell, &sample, h);
        fused.record(&sample, h);
        Ok(Some((with_tensors(carry, &last)?, y)))
    }

    /// The tensors of the carry behind each step and the outputs, of `x` on a device whose leading dimension is time, as one operation;
    /// `None` where it does not cover the cell.
    fn run_on_device<C: RnnCell>(
        &self,
        cell: &C,
        carry: &C::Carry,
        x: &Tensor,
    ) -> Result<Option<(Vec<Tensor>, Tensor)>> {
        let tensors: Vec<_> = carry.tensors().into_iter().cloned().collect();
        let is_on_device = |x: &Tensor| !x.device().is_cpu() && has_kernels(x);
        let fused =
            cell.fused().filter(|_| !is_reference() && is_on_device(x) && tensors.iter().all(is_on_device));
        let (Some(fused), Some(h)) = (fused, tensors.last()) else { return Ok(None) };
        let sample = x.detach().get(0)?;
        check_carry(cell, carry, &sample, fused.features)?;
        let Some(operands) = fused.operands(x, &sample, &tensors)? else { return Ok(None) };
        let carries = fused.run_on_device(&operands)?;
        record(cell, &sample, h);
        fused.record(&sample, h);
        Ok(carries.last().cloned().map(|y| (carries, y)))
    }

    /// Runs `cell` over the leading dimension of `x`, as one node of the gradient's graph: the carry of each
    /// sequence at its end, and the outputs of all steps, stacked.
    fn run_one_by_one<C: RnnCell>(
        &self,
        cell: &mut C,
        carry: &C::Carry,
        x: &Tensor,
    ) -> Result<(C::Carry, Tensor)> {
        let first: Vec<_> = carry.tensors().into_iter().cloned().collect();
        if let Some((carries, y)) = self.run_on_device(cell, carry, x)? {
            let last = match (&self.order.lengths, &self.lengths) {
                (None, None) => carries
                    .iter()
                    .map(|all| all.get(self.order.time - 1))
                    .collect::<candle_core::Result<_>>()?,
                _ => self.at_the_end(&first, &carries)?,
            };
            return Ok((with_tensors(carry, &last)?, y));
        }
        let like = carry.map_tensors(&mut |tensor| Ok(tensor.detach()))?;
        let keep_all = self.order.lengths.is_some() || self.lengths.is_some();
        let (last, mut ys) = scan(cell, &first, std::slice::from_ref(x), move |cell, carry, x| {
            let (carry, y) = cell.step(&with_tensors(&like, carry)?, &x[0])?;
            let carry: Vec<_> = carry.tensors().into_iter().cloned().collect();
            let ys = if keep_all { [&[y], carry.as_slice()].concat() } else { vec![y] };
            Ok((carry, ys))
        })?;
        let carries = ys.split_off(1);
        let last = if keep_all { self.at_the_end(&first, &carries)? } else { last };
        Ok((with_tensors(carry, &last)?, ys.swap_remove(0)))
    }

    /// The tensors of the carry of each sequence at its end, from those before the first step and after each
    /// step.
    fn at_the_end(&self, first: &[Tensor], after: &[Tensor]) -> Result<Vec<Tensor>> {
        let items = self.order.items;
        let rows = match &self.lengths {
            Some(Checked { indices, .. }) => {
                (indices.affine(items as f64, 0.)? + arange(items, indices.device())?)?
            }
            None => {
                let lengths = self.order.lengths.iter().flatten().enumerate();
                let rows: Vec<_> = lengths.map(|(item, length)| (length * items + item) as u32).collect();
                match first.first() {
                    Some(first) => on_device_of(first, rows)?,
                    None => return Ok(Vec::new()),
                }
            }
        };
        let each = first.iter().zip(after).map(|(first, after)| -> Result<Tensor> {
            // The initial carry may have a smaller type than the cell's.
            let all = Tensor::cat(&[&first.to_dtype(after.dtype())?.unsqueeze(0)?, after], 0)?;
            let last = select_rows(&all, &rows, first.dims())?;
            match &self.lengths {
                // A length that is out of range has no carry.
                Some(lengths) => {
                    let rows = last.reshape((items, last.elem_count() / items))?;
                    Ok(lengths.or_nan(&rows, 0)?.reshape(last.dims())?)
                }
                None => Ok(last),
            }
        });
        each.collect()
    }
}

/// Rows that were computed on the host, for [`select_rows`].
fn on_device_of(x: &Tensor, rows: Vec<u32>) -> Result<Tensor> {
    let instead = "make the lengths on the device of the sequence";
    transfer(&Tensor::new(rows, &Device::Cpu)?, x.device(), instead)
}

/// The `rows` of `x` as a tensor of shape `shape`, where a row is one step of one sequence.
fn select_rows(x: &Tensor, rows: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let size: usize = shape.iter().product::<usize>() / rows.elem_count().max(1);
    let all = x.elem_count() / size.max(1);
    Ok(x.reshape((all, size))?.index_select(rows, 0)?.reshape(shape)?)
}

fn wrong_lengths(batch: &[usize], time: usize, found: String) -> Error {
    Error::shape("`Rnn` got lengths that do not fit its sequences")
        .expected(format!("integers from 0 to {time}, of shape {batch:?}"))
        .found(found)
}

fn check_lengths(lengths: &Tensor, batch: &[usize], time: usize) -> Result<()> {
    if lengths.dims() != batch || !lengths.dtype().is_int() {
        let found = format!("`{}` of shape {:?}", lengths.dtype().as_str(), lengths.dims());
        return Err(wrong_lengths(batch, time, found));
    }
    Ok(())
}

/// The lengths on the host, checked.
fn lengths_of(lengths: &Tensor, batch: &[usize], time: usize) -> Result<Vec<usize>> {
    let lengths = transfer(lengths, &Device::Cpu, "make the lengths on the device of the sequence")?;
    let lengths = lengths.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
    let length = |length: i64| {
        let fits = usize::try_from(length).ok().filter(|&length| length <= time);
        fits.ok_or_else(|| wrong_lengths(batch, time, length.to_string()))
    };
    lengths.into_iter().map(length).collect()
}
