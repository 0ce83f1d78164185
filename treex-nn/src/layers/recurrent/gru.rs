//! The GRU cell.

use candle_core::{Module as _, Tensor};
use treex_core::{Initializer, Key, Result, TreeObject, record};

use super::cell::{RnnCell, add, check_carry, hidden, initial, interpolate, mul};
use super::fused::Fused;
use super::options::cell_options;
use crate::functional::activations::{sigmoid, tanh};
use crate::initializers::zeros;
use crate::layers::lambda::Lambda;
use crate::layers::linear::Linear;
use crate::ops::recurrent::Gru;

/// Gated recurrent unit: Flax's `GRUCell` (Cho et al., 2014; here the reset gate acts after the kernel).
///
/// ```text
/// r = gate_fn(ir(x) + hr(h))
/// z = gate_fn(iz(x) + hz(h))
/// n = activation_fn(in(x) + r hn(h))
/// h' = (1 - z) n + z h
/// ```
///
/// The carry is `h`, `[batch.., features]`, which is also the output.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{GruCell, RnnCell, prelude::*};
///
/// let mut cell = GruCell::new(3, 4).init(42, &Device::Cpu)?;
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let carry = cell.initialize_carry(Key::from(0), &x)?;
/// let (carry, y) = cell.step(&carry, &x)?;
/// assert_eq!(carry.dims(), [2, 4]);
/// assert_eq!(y.dims(), [2, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct GruCell {
    /// Reset gate, from the input. The three layers from the input have a bias.
    pub ir: Linear,
    /// Update gate, from the input.
    pub iz: Linear,
    /// New carry, from the input.
    #[tree(rename = "in")]
    pub in_: Linear,
    /// Reset gate, from the carry, without a bias.
    pub hr: Linear,
    /// Update gate, from the carry, without a bias.
    pub hz: Linear,
    /// New carry, from the carry, with a bias.
    pub hn: Linear,
    features: usize,
    #[tree(skip)]
    gate_fn: Lambda,
    #[tree(skip)]
    activation_fn: Lambda,
    #[tree(skip)]
    carry_init: Initializer,
}

impl GruCell {
    fn with_inputs(features: usize, input: impl Fn() -> Linear) -> Self {
        Self {
            ir: input(),
            iz: input(),
            in_: input(),
            hr: hidden(features).use_bias(false),
            hz: hidden(features).use_bias(false),
            hn: hidden(features),
            features,
            gate_fn: Lambda::of(sigmoid),
            activation_fn: Lambda::of(tanh),
            carry_init: Initializer::param(zeros),
        }
    }
}

cell_options!(GruCell {
    inputs: [ir, iz, in_],
    hidden: [hr, hz, hn],
    biases: { bias_init: [ir, iz, in_, hn] = "zeros" },
    functions: { gate_fn = "sigmoid", activation_fn = "tanh" },
});

impl RnnCell for GruCell {
    type Carry = Tensor;

    fn initialize_carry(&self, key: Key, x: &Tensor) -> Result<Tensor> {
        initial(&self.carry_init, key, x, self.features, self.hn.kernel.dtype())
    }

    fn step(&mut self, h: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        check_carry(self, h, x, self.features)?;
        let gate = |input: &Linear, hidden: &Linear| -> Result<Tensor> {
            Ok(self.gate_fn.forward(&add(&input.forward(x)?, &hidden.forward(h)?)?)?)
        };
        let r = gate(&self.ir, &self.hr)?;
        let z = gate(&self.iz, &self.hz)?;
        let n = add(&self.in_.forward(x)?, &mul(&r, &self.hn.forward(h)?)?)?;
        let y = interpolate(&z, &self.activation_fn.forward(&n)?, h)?;
        record(self, x, &y);
        Ok((y.clone(), y))
    }

    fn fused(&self) -> Option<Fused<'_>> {
        let is_usual = self.gate_fn.is(sigmoid) && self.activation_fn.is(tanh);
        let (of_input, of_carry) = ([&self.ir, &self.iz, &self.in_], [&self.hn, &self.hr, &self.hz]);
        is_usual.then(|| Fused::new(Gru, self.features, of_input, of_carry))
    }
}
