//! The LSTM cell.

use candle_core::{Module as _, Tensor};
use treex_core::{Initializer, Key, Result, TreeObject, record};

use super::cell::{RnnCell, add, check_carry, hidden, initial, mul};
use super::fused::Fused;
use super::options::cell_options;
use crate::functional::activations::{sigmoid, tanh};
use crate::initializers::zeros;
use crate::layers::lambda::Lambda;
use crate::layers::linear::Linear;
use crate::ops::recurrent::Lstm;

/// Long short-term memory: Flax's `LSTMCell` (Hochreiter and Schmidhuber, 1997).
///
/// ```text
/// i = gate_fn(ii(x) + hi(h))
/// f = gate_fn(if(x) + hf(h))
/// g = activation_fn(ig(x) + hg(h))
/// o = gate_fn(io(x) + ho(h))
/// c' = f c + i g
/// h' = o activation_fn(c')
/// ```
///
/// The carry is `(c, h)`, each `[batch.., features]`; the output is `h'`. The forget gate has no constant
/// offset; `bias_init` can add one.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{LstmCell, RnnCell, prelude::*};
///
/// let mut cell = LstmCell::new(3, 4).init(42, &Device::Cpu)?;
/// assert_eq!(cell.ii.kernel.get()?.dims(), [3, 4]);
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let carry = cell.initialize_carry(Key::from(0), &x)?;
/// let ((c, h), y) = cell.step(&carry, &x)?;
/// assert_eq!((c.dims(), h.dims(), y.dims()), (&[2, 4][..], &[2, 4][..], &[2, 4][..]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct LstmCell {
    /// Input gate, from the input. The four layers from the input have no bias.
    pub ii: Linear,
    /// Forget gate, from the input.
    #[tree(rename = "if")]
    pub if_: Linear,
    /// New memory, from the input.
    pub ig: Linear,
    /// Output gate, from the input.
    pub io: Linear,
    /// Input gate, from the carry. The four layers from the carry have a bias.
    pub hi: Linear,
    /// Forget gate, from the carry.
    pub hf: Linear,
    /// New memory, from the carry.
    pub hg: Linear,
    /// Output gate, from the carry.
    pub ho: Linear,
    features: usize,
    #[tree(skip)]
    gate_fn: Lambda,
    #[tree(skip)]
    activation_fn: Lambda,
    #[tree(skip)]
    carry_init: Initializer,
}

/// Flax's name for a faster cell with the parameters and values of [`LstmCell`]; here they are the same.
pub type OptimizedLstmCell = LstmCell;

impl LstmCell {
    fn with_inputs(features: usize, input: impl Fn() -> Linear) -> Self {
        let input = || input().use_bias(false);
        Self {
            ii: input(),
            if_: input(),
            ig: input(),
            io: input(),
            hi: hidden(features),
            hf: hidden(features),
            hg: hidden(features),
            ho: hidden(features),
            features,
            gate_fn: Lambda::of(sigmoid),
            activation_fn: Lambda::of(tanh),
            carry_init: Initializer::param(zeros),
        }
    }
}

cell_options!(LstmCell {
    inputs: [ii, if_, ig, io],
    hidden: [hi, hf, hg, ho],
    biases: { bias_init: [hi, hf, hg, ho] = "zeros" },
    functions: { gate_fn = "sigmoid", activation_fn = "tanh" },
});

impl RnnCell for LstmCell {
    type Carry = (Tensor, Tensor);

    fn initialize_carry(&self, key: Key, x: &Tensor) -> Result<Self::Carry> {
        let [c, h] = key.split2();
        let initial = |key| initial(&self.carry_init, key, x, self.features, self.hi.kernel.dtype());
        Ok((initial(c)?, initial(h)?))
    }

    fn step(&mut self, carry: &Self::Carry, x: &Tensor) -> Result<(Self::Carry, Tensor)> {
        check_carry(self, carry, x, self.features)?;
        let (c, h) = carry;
        let gate = |f: &Lambda, input: &Linear, hidden: &Linear| -> Result<Tensor> {
            Ok(f.forward(&add(&input.forward(x)?, &hidden.forward(h)?)?)?)
        };
        let i = gate(&self.gate_fn, &self.ii, &self.hi)?;
        let f = gate(&self.gate_fn, &self.if_, &self.hf)?;
        let g = gate(&self.activation_fn, &self.ig, &self.hg)?;
        let o = gate(&self.gate_fn, &self.io, &self.ho)?;
        let c = add(&mul(&f, c)?, &mul(&i, &g)?)?;
        let h = mul(&o, &self.activation_fn.forward(&c)?)?;
        record(self, x, &h);
        Ok(((c, h.clone()), h))
    }

    fn fused(&self) -> Option<Fused<'_>> {
        let is_usual = self.gate_fn.is(sigmoid) && self.activation_fn.is(tanh);
        let of_input = [&self.ii, &self.if_, &self.ig, &self.io];
        let of_carry = [&self.hi, &self.hf, &self.hg, &self.ho];
        is_usual.then(|| Fused::new(Lstm, self.features, of_input, of_carry))
    }
}
