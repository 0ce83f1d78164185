//! A recurrent layer: a cell over time.

use candle_core::Tensor;
use treex_core::{Key, Module, Result, TreeObject, record};

use super::cell::RnnCell;
use super::steps::{RnnOptions, Steps};

/// Runs a cell over a sequence: Flax's `RNN`.
///
/// [`call`](Module::call) returns the outputs of all steps, `[batch.., time, *features]`;
/// [`call_with`](Self::call_with) also takes and returns the carry, and takes the lengths of sequences.
///
/// The loop is one node of the gradient's graph, see [`scan`](treex_core::scan()): the carries and the state
/// that the cell wrote are saved, and the backward pass recomputes each step, so a long sequence takes little
/// memory and no deep stack.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{LstmCell, Linear, Rnn, Sequential, prelude::*};
///
/// let x = Tensor::ones((2, 7, 3), DType::F32, &Device::Cpu)?;
/// let mut rnn = Rnn::new(LstmCell::new(3, 4)).init(42, &Device::Cpu)?;
/// assert_eq!(rnn.call(&x)?.dims(), [2, 7, 4]);
///
/// let lengths = Tensor::new(&[7u32, 5], &Device::Cpu)?;
/// let ((c, h), y) = rnn.call_with(&x, None, Some(&lengths))?;
/// assert_eq!((c.dims(), h.dims(), y.dims()), (&[2, 4][..], &[2, 4][..], &[2, 7, 4][..]));
///
/// let model = Sequential::new().add(Rnn::new(LstmCell::lazy(8))).add(Linear::lazy(2));
/// assert_eq!(model.init_with(42, &x)?.call(&x)?.dims(), [2, 7, 2]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Rnn<C> {
    /// The cell of each step.
    pub cell: C,
    #[tree(skip)]
    options: RnnOptions,
}

impl<C: RnnCell> Rnn<C> {
    /// The cell, from the first step to the last.
    #[must_use]
    pub fn new(cell: C) -> Self {
        Self { cell, options: RnnOptions::default() }
    }

    /// Whether time is the first dimension, `[time, batch.., *features]`; default: false.
    #[must_use]
    pub fn time_major(self, time_major: bool) -> Self {
        Self { options: RnnOptions { time_major, ..self.options }, ..self }
    }

    /// Whether to go from the last step to the first; default: false. Outputs are in the order of
    /// computation; with lengths, padding stays at the end.
    #[must_use]
    pub fn reverse(self, reverse: bool) -> Self {
        Self { options: RnnOptions { reverse, ..self.options }, ..self }
    }

    /// Whether the outputs of a reversed sequence are returned in the order of the inputs; default: false.
    #[must_use]
    pub fn keep_order(self, keep_order: bool) -> Self {
        Self { options: RnnOptions { keep_order, ..self.options }, ..self }
    }

    /// The key for a random initial carry; default: that of seed 0.
    #[must_use]
    pub fn init_key(self, key: impl Into<Key>) -> Self {
        Self { options: RnnOptions { init_key: Some(key.into()), ..self.options }, ..self }
    }

    /// The carry after the last step, and the outputs of all steps.
    ///
    /// The first step gets `initial_carry`; default: the cell's initial carry. `seq_lengths`, `[batch..]`,
    /// has the number of steps of each sequence: its carry is then the one after these steps, and later
    /// outputs are undefined. Lengths on a device stay there; the carry of one that is out of range is NaN.
    ///
    /// # Errors
    /// If shapes do not fit, `x` has no steps, or a length on the CPU is out of range.
    pub fn call_with(
        &mut self,
        x: &Tensor,
        initial_carry: Option<&C::Carry>,
        seq_lengths: Option<&Tensor>,
    ) -> Result<(C::Carry, Tensor)> {
        self.run_as(self.options, x, initial_carry, seq_lengths)
    }

    pub(super) fn run_as(
        &mut self,
        options: RnnOptions,
        x: &Tensor,
        initial_carry: Option<&C::Carry>,
        seq_lengths: Option<&Tensor>,
    ) -> Result<(C::Carry, Tensor)> {
        let steps = Steps::of(x, self.cell.num_feature_axes(), options, seq_lengths);
        let steps = steps.map_err(|error| error.of(self.identity()))?;
        let carry = match initial_carry {
            Some(carry) => carry.clone(),
            None => {
                let key = options.init_key.unwrap_or_else(|| Key::from(0));
                self.cell.initialize_carry(key, &steps.sample(x)?)?
            }
        };
        steps.run(&mut self.cell, &carry, x)
    }
}

impl<C: RnnCell> Module for Rnn<C> {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let (_, y) = self.call_with(x, None, None)?;
        record(self, x, &y);
        Ok(y)
    }
}
