//! Long short-term memory over images.

use candle_core::{D, DType, Module as _, Tensor};
use treex_core::{Error, Initializer, Key, Result, TreeObject, record};

use super::cell::{RnnCell, add, check_carry, initial, mul};
use crate::activations::{sigmoid, tanh};
use crate::conv::Conv;
use crate::initializers::{InitFn, zeros};
use crate::padding::Padding;
use crate::sizes::Sizes;

/// Long short-term memory whose gates are convolutions: Flax's `ConvLSTMCell` (Shi et al., 2015).
///
/// ```text
/// i, g, f, o = split(ih(x) + hh(h), 4)
/// c' = sigmoid(f + 1) c + sigmoid(i) tanh(g)
/// h' = sigmoid(o) tanh(c')
/// ```
///
/// The carry is `(c, h)`, each `[batch.., *spatial, features]`; the output is `h'`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{ConvLSTMCell, RNN, prelude::*};
///
/// let cell = ConvLSTMCell::new(3, 4, [2, 2]);
/// let mut rnn = RNN::new(cell).init(42, &Device::Cpu)?;
/// assert_eq!(rnn.cell.ih.kernel.get()?.dims(), [2, 2, 3, 16]);
/// let x = Tensor::ones((2, 7, 5, 5, 3), DType::F32, &Device::Cpu)?; // [batch, time, height, width, channels]
/// assert_eq!(rnn.call(&x)?.dims(), [2, 7, 5, 5, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct ConvLSTMCell {
    /// Reads the input, to four times the features.
    pub ih: Conv,
    /// Reads the carry, to four times the features.
    pub hh: Conv,
    features: usize,
    spatial: usize,
    #[tree(skip)]
    carry_init: Initializer,
}

impl ConvLSTMCell {
    /// A cell from `cin` to `features` channels; `kernel_size` has a number for each spatial dimension.
    #[must_use]
    pub fn new(cin: usize, features: usize, kernel_size: impl Into<Vec<usize>>) -> Self {
        let kernel_size = kernel_size.into();
        let ih = Conv::new(cin, features.saturating_mul(4), kernel_size.clone());
        Self { ih, ..Self::features(features, kernel_size) }
    }

    /// A cell to `features` channels from as many as the first input has, see
    /// [`init_with`](treex_core::Tree::init_with).
    #[must_use]
    pub fn features(features: usize, kernel_size: impl Into<Vec<usize>>) -> Self {
        let kernel_size = kernel_size.into();
        Self {
            spatial: kernel_size.len(),
            ih: Conv::features(features.saturating_mul(4), kernel_size.clone()),
            hh: Conv::new(features, features.saturating_mul(4), kernel_size),
            features,
            carry_init: Initializer::param(zeros),
        }
    }

    /// See [`Conv::strides`]. Only a step of 1, the default, keeps the size of a carry.
    #[must_use]
    pub fn strides(self, strides: impl Into<Sizes>) -> Self {
        let strides = strides.into();
        self.each(|conv| conv.strides(strides.clone()))
    }

    /// See [`Conv::padding`]; [`Padding::Same`] unless said.
    #[must_use]
    pub fn padding(self, padding: impl Into<Padding>) -> Self {
        let padding = padding.into();
        self.each(|conv| conv.padding(padding.clone()))
    }

    /// Whether the convolutions add a bias; true unless said.
    #[must_use]
    pub fn use_bias(self, use_bias: bool) -> Self {
        self.each(|conv| conv.use_bias(use_bias))
    }

    /// How to make the carry; zeros unless said.
    #[must_use]
    pub fn carry_init(self, init: impl InitFn) -> Self {
        Self { carry_init: Initializer::param(init), ..self }
    }

    /// The element type of the parameters and of the first carry; `F32` unless said.
    #[must_use]
    pub fn param_dtype(self, dtype: DType) -> Self {
        self.each(|conv| conv.param_dtype(dtype))
    }

    /// The element type of the gates; unless said, the smallest that holds the input and the parameters.
    #[must_use]
    pub fn dtype(self, dtype: DType) -> Self {
        self.each(|conv| conv.dtype(dtype))
    }

    fn each(self, f: impl Fn(Conv) -> Conv) -> Self {
        Self { ih: f(self.ih), hh: f(self.hh), ..self }
    }
}

impl RnnCell for ConvLSTMCell {
    type Carry = (Tensor, Tensor);

    fn initialize_carry(&self, key: Key, x: &Tensor) -> Result<Self::Carry> {
        let [c, h] = key.split2();
        let initial = |key| initial(&self.carry_init, key, x, self.features, self.hh.kernel.dtype());
        Ok((initial(c)?, initial(h)?))
    }

    fn step(&mut self, carry: &Self::Carry, x: &Tensor) -> Result<(Self::Carry, Tensor)> {
        check_carry(self, carry, x, self.features)?;
        let (c, h) = carry;
        let gates = add(&self.ih.forward(x)?, &self.hh.forward(h)?)?;
        if gates.dims()[..gates.rank() - 1] != c.dims()[..c.rank() - 1] {
            return Err(Error::argument("`ConvLSTMCell` has convolutions that change the size of the carry")
                .expected(format!("{:?} before the channels", &c.dims()[..c.rank() - 1]))
                .found(format!("{:?}", &gates.dims()[..gates.rank() - 1]))
                .remedy("leave `strides` at 1 and `padding` at `Padding::Same`")
                .of(self.identity()));
        }
        let gate = |index| gates.narrow(D::Minus1, index * self.features, self.features);
        let (i, g, f, o) =
            (sigmoid(&gate(0)?)?, tanh(&gate(1)?)?, sigmoid(&(gate(2)? + 1.)?)?, sigmoid(&gate(3)?)?);
        let c = add(&mul(&f, c)?, &mul(&i, &g)?)?;
        let h = mul(&o, &tanh(&c)?)?;
        record(self, x, &h);
        Ok(((c, h.clone()), h))
    }

    fn num_feature_axes(&self) -> usize {
        self.spatial + 1
    }
}
