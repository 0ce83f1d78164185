//! The MGU cell.

use candle_core::{Module as _, Tensor};
use treex_core::{Initializer, Key, Result, TreeObject, record};

use super::cell::{RnnCell, add, check_carry, hidden, initial, interpolate, mul};
use super::fused::Fused;
use super::options::cell_options;
use crate::functional::activations::{sigmoid, tanh};
use crate::initializers::{ones, zeros};
use crate::layers::lambda::Lambda;
use crate::layers::linear::Linear;
use crate::ops::recurrent::{Mgu, MguWithoutReset};

/// Minimal gated unit: Flax's `MGUCell` (Zhou et al., 2016; without `reset_gate`, Heck and Salem, 2017).
///
/// ```text
/// f = gate_fn(if(x) + hf(h))
/// n = activation_fn(in(x) + f hn(h))      activation_fn(in(x) + hn(h)) without `reset_gate`
/// h' = (1 - f) n + f h
/// ```
///
/// The carry is `h`, `[batch.., features]`, which is also the output.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{MguCell, RnnCell, prelude::*};
///
/// let mut cell = MguCell::new(3, 4).init(42, &Device::Cpu)?;
/// assert_eq!(Leaf::get_optional(&cell.if_.bias)?.unwrap().to_vec1::<f32>()?, [1.; 4]);
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let carry = cell.initialize_carry(Key::from(0), &x)?;
/// let (carry, y) = cell.step(&carry, &x)?;
/// assert_eq!(carry.dims(), [2, 4]);
/// assert_eq!(y.dims(), [2, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct MguCell {
    /// Gate, from the input, with a bias.
    #[tree(rename = "if")]
    pub if_: Linear,
    /// New carry, from the input, with a bias.
    #[tree(rename = "in")]
    pub in_: Linear,
    /// Gate, from the carry, without a bias.
    pub hf: Linear,
    /// New carry, from the carry, with a bias if there is a reset gate.
    pub hn: Linear,
    features: usize,
    reset_gate: bool,
    #[tree(skip)]
    gate_fn: Lambda,
    #[tree(skip)]
    activation_fn: Lambda,
    #[tree(skip)]
    carry_init: Initializer,
}

impl MguCell {
    fn with_inputs(features: usize, input: impl Fn() -> Linear) -> Self {
        Self {
            if_: input().bias_init(ones),
            in_: input(),
            hf: hidden(features).use_bias(false),
            hn: hidden(features),
            features,
            reset_gate: true,
            gate_fn: Lambda::of(sigmoid),
            activation_fn: Lambda::of(tanh),
            carry_init: Initializer::param(zeros),
        }
    }

    /// Whether the gate also acts on the old carry inside of the new one; default: true.
    #[must_use]
    pub fn reset_gate(self, reset_gate: bool) -> Self {
        Self { hn: self.hn.use_bias(reset_gate), reset_gate, ..self }
    }
}

cell_options!(MguCell {
    inputs: [if_, in_],
    hidden: [hf, hn],
    biases: { forget_bias_init: [if_] = "ones", activation_bias_init: [in_, hn] = "zeros" },
    functions: { gate_fn = "sigmoid", activation_fn = "tanh" },
});

impl RnnCell for MguCell {
    type Carry = Tensor;

    fn initialize_carry(&self, key: Key, x: &Tensor) -> Result<Tensor> {
        initial(&self.carry_init, key, x, self.features, self.hn.kernel.dtype())
    }

    fn step(&mut self, h: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        check_carry(self, h, x, self.features)?;
        let f = self.gate_fn.forward(&add(&self.if_.forward(x)?, &self.hf.forward(h)?)?)?;
        let mut n = self.hn.forward(h)?;
        if self.reset_gate {
            n = mul(&f, &n)?;
        }
        let n = self.activation_fn.forward(&add(&self.in_.forward(x)?, &n)?)?;
        let y = interpolate(&f, &n, h)?;
        record(self, x, &y);
        Ok((y.clone(), y))
    }

    fn fused(&self) -> Option<Fused<'_>> {
        let is_usual = self.gate_fn.is(sigmoid) && self.activation_fn.is(tanh);
        let of_input = [&self.if_, &self.in_];
        is_usual.then(|| match self.reset_gate {
            true => Fused::new(Mgu, self.features, of_input, [&self.hn, &self.hf]),
            false => Fused::new(MguWithoutReset, self.features, of_input, [&self.hf, &self.hn]),
        })
    }
}
