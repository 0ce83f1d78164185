//! A cell over time.

use candle_core::Tensor;
use treex_core::{Error, Key, Module, Result, TreeObject, record, scan};

use super::cell::{Carry, RnnCell};

/// A cell run over a sequence: Flax's `RNN`.
///
/// [`call`](Module::call) gives the outputs of all steps, `[batch.., time, *features]` for an input of that
/// shape; [`run`](Self::run) takes and gives the carry too, and sequences of different lengths.
///
/// The loop is one node of the gradient's graph, see [`scan`](treex_core::scan()): the backward pass keeps the
/// carries and what the cell wrote, and runs each step again, so a long sequence takes little memory and no deep
/// stack.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{LSTMCell, Linear, RNN, Sequential, prelude::*};
///
/// let x = Tensor::ones((2, 7, 3), DType::F32, &Device::Cpu)?;
/// let mut rnn = RNN::new(LSTMCell::new(3, 4)).init(42, &Device::Cpu)?;
/// assert_eq!(rnn.call(&x)?.dims(), [2, 7, 4]);
///
/// let lengths = Tensor::new(&[7u32, 5], &Device::Cpu)?;
/// let ((c, h), y) = rnn.run(&x, None, Some(&lengths))?;
/// assert_eq!((c.dims(), h.dims(), y.dims()), (&[2, 4][..], &[2, 4][..], &[2, 7, 4][..]));
///
/// let model = Sequential::new().add(RNN::new(LSTMCell::features(8))).add(Linear::features(2));
/// assert_eq!(model.init_with(42, &x)?.call(&x)?.dims(), [2, 7, 2]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct RNN<C> {
    /// What makes each step.
    pub cell: C,
    #[tree(skip)]
    way: Way,
}

/// How to go through a sequence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    pub(super) time_major: bool,
    pub(super) reverse: bool,
    pub(super) keep_order: bool,
    pub(super) init_key: Option<Key>,
}

impl<C: RnnCell> RNN<C> {
    /// The cell, from the first step to the last.
    #[must_use]
    pub fn new(cell: C) -> Self {
        Self { cell, way: Way::default() }
    }

    /// Whether time is the first dimension, `[time, batch.., *features]`; false unless said.
    #[must_use]
    pub fn time_major(self, time_major: bool) -> Self {
        Self { way: Way { time_major, ..self.way }, ..self }
    }

    /// Whether to go from the last step to the first; false unless said. The outputs are in the order of
    /// computation; padding stays at the end where lengths are given.
    #[must_use]
    pub fn reverse(self, reverse: bool) -> Self {
        Self { way: Way { reverse, ..self.way }, ..self }
    }

    /// Whether outputs of a reversed sequence are put into the order of the inputs; false unless said.
    #[must_use]
    pub fn keep_order(self, keep_order: bool) -> Self {
        Self { way: Way { keep_order, ..self.way }, ..self }
    }

    /// The key for the first carry, where that is random; that of seed 0 unless said.
    #[must_use]
    pub fn init_key(self, key: impl Into<Key>) -> Self {
        Self { way: Way { init_key: Some(key.into()), ..self.way }, ..self }
    }

    /// The carry after the last step, and the outputs of all steps.
    ///
    /// The first step gets `initial_carry`, or what the cell begins with. `seq_lengths` has an integer for each
    /// sequence, `[batch..]`, from 0 to the number of steps: the carry is then that after as many steps, and
    /// the outputs beyond mean nothing.
    ///
    /// # Errors
    /// If shapes do not fit, there are no steps, or a length is more than there are.
    pub fn run(
        &mut self,
        x: &Tensor,
        initial_carry: Option<&C::Carry>,
        seq_lengths: Option<&Tensor>,
    ) -> Result<(C::Carry, Tensor)> {
        self.run_as(self.way, x, initial_carry, seq_lengths)
    }

    pub(super) fn run_as(
        &mut self,
        way: Way,
        x: &Tensor,
        initial_carry: Option<&C::Carry>,
        seq_lengths: Option<&Tensor>,
    ) -> Result<(C::Carry, Tensor)> {
        let steps = Steps::of(x, self.cell.num_feature_axes(), way.time_major, seq_lengths);
        let steps = steps.map_err(|error| error.of(self))?;
        let x = if way.reverse { steps.flip(x)? } else { x.clone() };
        let x = moved(&x, steps.axis, 0)?;
        let carry = match initial_carry {
            Some(carry) => carry.clone(),
            None => {
                let key = way.init_key.unwrap_or_else(|| Key::from(0));
                self.cell.initialize_carry(key, &x.get(0)?.detach())?
            }
        };
        let (carry, y) = steps.run(&mut self.cell, &carry, &x)?;
        let y = moved(&y, 0, steps.axis)?;
        let y = if way.reverse && way.keep_order { steps.flip(&y)? } else { y };
        Ok((carry, y))
    }
}

impl<C: RnnCell> Module for RNN<C> {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let (_, y) = self.run(x, None, None)?;
        record(self, x, &y);
        Ok(y)
    }
}

/// `x` with dimension `from` at the place `to`, in order in memory.
fn moved(x: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    if from == to {
        return Ok(x.clone());
    }
    let mut order: Vec<_> = (0..x.rank()).collect();
    let axis = order.remove(from);
    order.insert(to, axis);
    Ok(x.permute(order)?.contiguous()?)
}

/// Where time is in a tensor, and how much of it each sequence has.
struct Steps {
    axis: usize,
    time: usize,
    /// How many sequences there are.
    items: usize,
    time_major: bool,
    lengths: Option<Vec<usize>>,
}

impl Steps {
    fn of(x: &Tensor, feature_axes: usize, time_major: bool, seq_lengths: Option<&Tensor>) -> Result<Self> {
        let axis = if time_major { 0 } else { x.rank().saturating_sub(feature_axes + 1) };
        let time = x.dims().get(axis).copied().unwrap_or(0);
        if x.rank() <= feature_axes || time == 0 {
            let features = if feature_axes == 1 { "features" } else { "*spatial, features" };
            return Err(Error::shape("`RNN` got an input without steps")
                .expected(match time_major {
                    true => format!("[time, batch.., {features}]"),
                    false => format!("[batch.., time, {features}]"),
                })
                .found(format!("{:?}", x.dims())));
        }
        let mut batch = x.dims()[..x.rank() - feature_axes].to_vec();
        batch.remove(axis);
        let lengths = seq_lengths.map(|lengths| lengths_of(lengths, &batch, time)).transpose()?;
        Ok(Self { axis, time, items: batch.iter().product(), time_major, lengths })
    }

    /// `x` with time reversed; where there are lengths, only within them.
    fn flip(&self, x: &Tensor) -> Result<Tensor> {
        let Some(lengths) = &self.lengths else { return Ok(x.flip(&[self.axis])?) };
        let (items, time) = (self.items, self.time);
        let from = |place: usize| {
            let (item, step) =
                if self.time_major { (place % items, place / items) } else { (place / time, place % time) };
            let step = (time - 1 - step + lengths[item]) % time;
            (if self.time_major { step * items + item } else { item * time + step }) as u32
        };
        select_rows(x, (0..items * time).map(from).collect(), x.dims())
    }

    /// Runs `cell` over the leading dimension of `x`, as one node of the gradient's graph: the carry of each
    /// sequence where it ends, and the outputs of all steps, stacked.
    fn run<C: RnnCell>(&self, cell: &mut C, carry: &C::Carry, x: &Tensor) -> Result<(C::Carry, Tensor)> {
        let first: Vec<_> = carry.tensors().into_iter().cloned().collect();
        let like = carry.map_tensors(&mut |tensor| Ok(tensor.detach()))?;
        let keep_all = self.lengths.is_some();
        let (last, mut ys) = scan(cell, &first, std::slice::from_ref(x), move |cell, carry, x| {
            let (carry, y) = cell.step(&with_tensors(&like, carry)?, &x[0])?;
            let carry: Vec<_> = carry.tensors().into_iter().cloned().collect();
            let ys = if keep_all { [&[y], carry.as_slice()].concat() } else { vec![y] };
            Ok((carry, ys))
        })?;
        let carries = ys.split_off(1);
        let last = match &self.lengths {
            None => last,
            Some(lengths) => self.at_the_end(lengths, &first, &carries)?,
        };
        Ok((with_tensors(carry, &last)?, ys.swap_remove(0)))
    }

    /// The tensors of the carry of each sequence where it ends, of those before the first step and those after
    /// each.
    fn at_the_end(&self, lengths: &[usize], first: &[Tensor], after: &[Tensor]) -> Result<Vec<Tensor>> {
        let rows: Vec<_> =
            lengths.iter().enumerate().map(|(item, length)| (length * self.items + item) as u32).collect();
        let each = first.iter().zip(after).map(|(first, after)| {
            // The first may be of a smaller type than those that the cell made.
            let all = Tensor::cat(&[&first.to_dtype(after.dtype())?.unsqueeze(0)?, after], 0)?;
            select_rows(&all, rows.clone(), first.dims())
        });
        each.collect()
    }
}

/// A carry like `like`, of other tensors.
fn with_tensors<C: Carry>(like: &C, tensors: &[Tensor]) -> Result<C> {
    let mut tensors = tensors.iter().cloned();
    like.map_tensors(&mut |tensor| Ok(tensors.next().unwrap_or_else(|| tensor.clone())))
}

/// The `rows` of `x` as a tensor of this shape, where a row is what belongs to one step of one sequence.
fn select_rows(x: &Tensor, rows: Vec<u32>, shape: &[usize]) -> Result<Tensor> {
    let size: usize = shape.iter().product::<usize>() / rows.len().max(1);
    let rows = Tensor::new(rows, x.device())?;
    let all = x.elem_count() / size.max(1);
    Ok(x.reshape((all, size))?.index_select(&rows, 0)?.reshape(shape)?)
}

fn lengths_of(lengths: &Tensor, batch: &[usize], time: usize) -> Result<Vec<usize>> {
    let error = |found: String| {
        Error::shape("`RNN` got lengths that do not fit its sequences")
            .expected(format!("integers from 0 to {time}, of shape {batch:?}"))
            .found(found)
    };
    if lengths.dims() != batch || !lengths.dtype().is_int() {
        return Err(error(format!("`{}` of shape {:?}", lengths.dtype().as_str(), lengths.dims())));
    }
    let lengths = lengths.to_dtype(candle_core::DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
    let length = |length: i64| {
        usize::try_from(length).ok().filter(|&length| length <= time).ok_or_else(|| error(length.to_string()))
    };
    lengths.into_iter().map(length).collect()
}
