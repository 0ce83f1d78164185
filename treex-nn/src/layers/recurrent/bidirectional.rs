//! A bidirectional recurrent layer.

use candle_core::{D, Tensor};
use treex_core::{Key, Module, Result, TreeObject, record};

use super::cell::RnnCell;
use super::rnn::Rnn;
use super::steps::RnnOptions;

/// Runs one cell forward and one backward, and merges their outputs, step by step: Flax's `Bidirectional`
/// (Schuster and Paliwal, 1997).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Bidirectional, GruCell, Rnn, prelude::*};
///
/// let rnn = Bidirectional::new(Rnn::new(GruCell::new(3, 4)), Rnn::new(GruCell::new(3, 4)));
/// let mut rnn = rnn.init(42, &Device::Cpu)?;
/// let x = Tensor::ones((2, 7, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(rnn.call(&x)?.dims(), [2, 7, 8]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Bidirectional<F, B = F> {
    /// From the first step to the last.
    pub forward_rnn: Rnn<F>,
    /// From the last step to the first.
    pub backward_rnn: Rnn<B>,
    #[tree(skip)]
    merge_fn: fn(&Tensor, &Tensor) -> Result<Tensor>,
    time_major: bool,
    #[tree(skip)]
    init_key: Option<Key>,
}

/// Forward and backward.
type Carries<F, B> = (<F as RnnCell>::Carry, <B as RnnCell>::Carry);

impl<F: RnnCell, B: RnnCell> Bidirectional<F, B> {
    /// One layer for each direction; their own options of direction and time axis are ignored.
    #[must_use]
    pub fn new(forward_rnn: Rnn<F>, backward_rnn: Rnn<B>) -> Self {
        Self { forward_rnn, backward_rnn, merge_fn: concatenate, time_major: false, init_key: None }
    }

    /// The function that merges the outputs of both directions; default: concatenation along the last
    /// dimension.
    #[must_use]
    pub fn merge_fn(self, merge_fn: fn(&Tensor, &Tensor) -> Result<Tensor>) -> Self {
        Self { merge_fn, ..self }
    }

    /// Whether time is the first dimension, `[time, batch.., *features]`; default: false.
    #[must_use]
    pub fn time_major(self, time_major: bool) -> Self {
        Self { time_major, ..self }
    }

    /// The key for random initial carries; it is split for the two directions.
    #[must_use]
    pub fn init_key(self, key: impl Into<Key>) -> Self {
        Self { init_key: Some(key.into()), ..self }
    }

    /// The carries of both directions after their last steps, and the merged outputs in the order of the
    /// inputs. See [`Rnn::call_with`].
    ///
    /// # Errors
    /// As [`Rnn::call_with`], and any error of `merge_fn`.
    pub fn call_with(
        &mut self,
        x: &Tensor,
        initial_carry: Option<&Carries<F, B>>,
        seq_lengths: Option<&Tensor>,
    ) -> Result<(Carries<F, B>, Tensor)> {
        let keys = self.init_key.map(|key| key.split2());
        let options = RnnOptions {
            time_major: self.time_major,
            init_key: keys.map(|[key, _]| key),
            ..RnnOptions::default()
        };
        let first = initial_carry.map(|(carry, _)| carry);
        let (forward, a) = self.forward_rnn.run_as(options, x, first, seq_lengths)?;
        let options =
            RnnOptions { reverse: true, keep_order: true, init_key: keys.map(|[_, key]| key), ..options };
        let first = initial_carry.map(|(_, carry)| carry);
        let (backward, b) = self.backward_rnn.run_as(options, x, first, seq_lengths)?;
        Ok(((forward, backward), (self.merge_fn)(&a, &b)?))
    }
}

impl<F: RnnCell, B: RnnCell> Module for Bidirectional<F, B> {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let (_, y) = self.call_with(x, None, None)?;
        record(self, x, &y);
        Ok(y)
    }
}

fn concatenate(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(Tensor::cat(&[a, b], D::Minus1)?)
}
