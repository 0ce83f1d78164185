//! The simple recurrent cell.

use candle_core::{Module as _, Tensor};
use treex_core::{Initializer, Key, Result, TreeObject, record};

use super::cell::{RnnCell, add, check_carry, hidden, initial};
use super::fused::Fused;
use super::options::cell_options;
use crate::functional::activations::tanh;
use crate::initializers::zeros;
use crate::layers::lambda::Lambda;
use crate::layers::linear::Linear;
use crate::ops::recurrent::Simple;

/// `h' = activation_fn(i(x) + h(h))`, and `+ h` inside if `residual` is set: Flax's `SimpleCell` (Elman, 1990).
///
/// The carry is `h`, `[batch.., features]`, which is also the output.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{RnnCell, SimpleCell, prelude::*};
///
/// let mut cell = SimpleCell::new(3, 4).init(42, &Device::Cpu)?;
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let carry = cell.initialize_carry(Key::from(0), &x)?;
/// let (carry, y) = cell.step(&carry, &x)?;
/// assert_eq!(carry.dims(), [2, 4]);
/// assert_eq!(y.dims(), [2, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct SimpleCell {
    /// Reads the input, with a bias.
    pub i: Linear,
    /// Reads the carry, without a bias.
    pub h: Linear,
    features: usize,
    residual: bool,
    #[tree(skip)]
    activation_fn: Lambda,
    #[tree(skip)]
    carry_init: Initializer,
}

impl SimpleCell {
    fn with_inputs(features: usize, input: impl Fn() -> Linear) -> Self {
        Self {
            i: input(),
            h: hidden(features).use_bias(false),
            features,
            residual: false,
            activation_fn: Lambda::of(tanh),
            carry_init: Initializer::param(zeros),
        }
    }

    /// Whether the carry is added before the activation (Yue et al., 2018); default: false.
    #[must_use]
    pub fn residual(self, residual: bool) -> Self {
        Self { residual, ..self }
    }
}

cell_options!(SimpleCell {
    inputs: [i],
    hidden: [h],
    biases: { bias_init: [i] = "zeros" },
    functions: { activation_fn = "tanh" },
});

impl RnnCell for SimpleCell {
    type Carry = Tensor;

    fn initialize_carry(&self, key: Key, x: &Tensor) -> Result<Tensor> {
        initial(&self.carry_init, key, x, self.features, self.h.kernel.dtype())
    }

    fn step(&mut self, carry: &Tensor, x: &Tensor) -> Result<(Tensor, Tensor)> {
        check_carry(self, carry, x, self.features)?;
        let mut sum = add(&self.i.forward(x)?, &self.h.forward(carry)?)?;
        if self.residual {
            sum = add(&sum, carry)?;
        }
        let y = self.activation_fn.forward(&sum)?;
        record(self, x, &y);
        Ok((y.clone(), y))
    }

    fn fused(&self) -> Option<Fused<'_>> {
        let is_usual = self.activation_fn.is(tanh);
        let simple = Simple { residual: self.residual };
        is_usual.then(|| Fused::new(simple, self.features, [&self.i], [&self.h]))
    }
}
