//! Recurrent cells: their traits, and what they share.

use candle_core::{DType, Device, Tensor};
use treex_core::constants::constant;
use treex_core::{Error, Initializer, Key, Result, TreeObject};

use super::fused::Fused;
use crate::dtype::common_dtype;
use crate::initializers::orthogonal;
use crate::layers::linear::Linear;

/// One step of a recurrent network: Flax's `RNNCellBase`. [`Rnn`](crate::Rnn) runs it over time.
pub trait RnnCell: TreeObject + Clone + 'static {
    /// The state that one step passes to the next.
    type Carry: Carry;

    /// The initial carry for an input `x` of one step; default: zeros, see the cell's `carry_init`.
    ///
    /// # Errors
    /// Any error of the initializer.
    fn initialize_carry(&self, key: Key, x: &Tensor) -> Result<Self::Carry>;

    /// The next carry and the output, from the carry and an input `[batch.., features]`.
    ///
    /// # Errors
    /// If shapes do not fit, or a leaf has no value.
    fn step(&mut self, carry: &Self::Carry, x: &Tensor) -> Result<(Self::Carry, Tensor)>;

    /// The cell as one operation over all steps: for cells of this crate with their default functions.
    #[doc(hidden)]
    fn fused(&self) -> Option<Fused<'_>> {
        None
    }

    /// The number of dimensions of an input that are not batch dimensions: 1, or more for images.
    fn num_feature_axes(&self) -> usize {
        1
    }
}

/// The state of a cell: a tensor, or a pair of carries.
pub trait Carry: Clone + Send + Sync + 'static {
    /// Its tensors, in order.
    fn tensors(&self) -> Vec<&Tensor>;

    /// The carry with each tensor mapped by `f`, in order.
    ///
    /// # Errors
    /// The first error of `f`.
    fn map_tensors(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self>;
}

impl Carry for Tensor {
    fn tensors(&self) -> Vec<&Tensor> {
        vec![self]
    }

    fn map_tensors(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        f(self)
    }
}

impl<A: Carry, B: Carry> Carry for (A, B) {
    fn tensors(&self) -> Vec<&Tensor> {
        [self.0.tensors(), self.1.tensors()].concat()
    }

    fn map_tensors(&self, f: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok((self.0.map_tensors(f)?, self.1.map_tensors(f)?))
    }
}

/// A carry structured like `like`, made of `tensors`.
pub(super) fn with_tensors<C: Carry>(like: &C, tensors: &[Tensor]) -> Result<C> {
    let mut tensors = tensors.iter().cloned();
    like.map_tensors(&mut |tensor| Ok(tensors.next().unwrap_or_else(|| tensor.clone())))
}

/// The layer that reads the carry, with a bias.
pub(super) fn hidden(features: usize) -> Linear {
    Linear::new(features, features).kernel_init(orthogonal(1.))
}

/// The shape of each tensor in the carry of a cell with `features` features, for an input `x` of one step.
pub(super) fn carry_shape(x: &Tensor, features: usize) -> Vec<usize> {
    let batch = x.dims().split_last().map_or(&[][..], |(_, batch)| batch);
    [batch, &[features]].concat()
}

/// One tensor of the initial carry, in the element type of the parameters.
pub(super) fn initial(
    carry_init: &Initializer,
    key: Key,
    x: &Tensor,
    features: usize,
    dtype: Option<DType>,
) -> Result<Tensor> {
    let init =
        carry_init.clone().with_shape(carry_shape(x, features)).with_dtype(dtype.unwrap_or(DType::F32));
    let carry = init.call(&key)?;
    match x.device() {
        Device::Cpu => Ok(carry),
        // The same at each call with this key. A copy, since the caller may write into it.
        device => Ok(constant(&carry, device)?.copy()?),
    }
}

/// Checks that the tensors of a carry fit an input.
pub(super) fn check_carry<C: RnnCell>(cell: &C, carry: &C::Carry, x: &Tensor, features: usize) -> Result<()> {
    let expected = carry_shape(x, features);
    match carry.tensors().into_iter().find(|tensor| tensor.dims() != expected) {
        None => Ok(()),
        Some(tensor) => {
            let name = cell.module_name().unwrap_or("RnnCell");
            Err(Error::shape(format!("`{name}` got a carry of the wrong shape"))
                .expected(format!("{expected:?} for an input {:?}", x.dims()))
                .found(format!("{:?}", tensor.dims()))
                .remedy("start with `cell.initialize_carry(key, &x)?`")
                .of(cell.identity()))
        }
    }
}

/// `a + b` in the type that holds both.
pub(super) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = common_dtype(None, [a, b]);
    Ok((a.to_dtype(dtype)? + b.to_dtype(dtype)?)?)
}

/// `a · b`, element by element, in the type that holds both.
pub(super) fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = common_dtype(None, [a, b]);
    Ok((a.to_dtype(dtype)? * b.to_dtype(dtype)?)?)
}

/// `(1 - gate) new + gate old`.
pub(super) fn interpolate(gate: &Tensor, new: &Tensor, old: &Tensor) -> Result<Tensor> {
    add(&mul(&(1. - gate)?, new)?, &mul(gate, old)?)
}
