//! A cell over time.

use candle_core::Tensor;
use treex_core::{Key, Module, Result, TreeObject, record};

use super::cell::RnnCell;
use super::steps::Steps;

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
        let steps = Steps::of(x, self.cell.num_feature_axes(), way, seq_lengths);
        let steps = steps.map_err(|error| error.of(self.identity()))?;
        let carry = match initial_carry {
            Some(carry) => carry.clone(),
            None => {
                let key = way.init_key.unwrap_or_else(|| Key::from(0));
                self.cell.initialize_carry(key, &steps.sample(x)?)?
            }
        };
        steps.run(&mut self.cell, &carry, x)
    }
}

impl<C: RnnCell> Module for RNN<C> {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let (_, y) = self.run(x, None, None)?;
        record(self, x, &y);
        Ok(y)
    }
}
