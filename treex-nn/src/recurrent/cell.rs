//! What a cell is, and what the cells share.

use candle_core::{DType, Tensor};
use treex_core::{Error, Initializer, Key, Result, TreeObject};

use super::fused::Fused;
use crate::dtype::common_dtype;
use crate::initializers::orthogonal;
use crate::linear::Linear;

/// One step of a recurrent network: Flax's `RNNCellBase`. [`RNN`](crate::RNN) runs it over time.
pub trait RnnCell: TreeObject + Clone + 'static {
    /// What one step hands to the next.
    type Carry: Carry;

    /// What the first step gets, for an input `x` of one step: zeros unless the cell's `carry_init` says
    /// otherwise.
    ///
    /// # Errors
    /// What the initializer reports.
    fn initialize_carry(&self, key: Key, x: &Tensor) -> Result<Self::Carry>;

    /// The next carry and the output, from the carry and an input `[batch.., features]`.
    ///
    /// # Errors
    /// If shapes do not fit, or a leaf has no value.
    fn step(&mut self, carry: &Self::Carry, x: &Tensor) -> Result<(Self::Carry, Tensor)>;

    /// The cell as one operation over all steps: for cells of this library whose functions are the usual ones.
    #[doc(hidden)]
    fn fused(&self) -> Option<Fused<'_>> {
        None
    }

    /// How many dimensions of an input are not batch dimensions: 1, more for images.
    fn num_feature_axes(&self) -> usize {
        1
    }
}

/// What a cell carries from step to step: a tensor, or a pair of carries.
pub trait Carry: Clone + Send + Sync + 'static {
    /// Its tensors, in order.
    fn tensors(&self) -> Vec<&Tensor>;

    /// The same with `f` of each tensor, in order.
    ///
    /// # Errors
    /// The first that `f` reports.
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

/// What reads the carry, with a bias.
pub(super) fn hidden(features: usize) -> Linear {
    Linear::new(features, features).kernel_init(orthogonal(1.))
}

/// The shape of each tensor in the carry of a cell with `features` features, for an input `x` of one step.
pub(super) fn carry_shape(x: &Tensor, features: usize) -> Vec<usize> {
    let batch = x.dims().split_last().map_or(&[][..], |(_, batch)| batch);
    [batch, &[features]].concat()
}

/// One tensor of the carry at the beginning, in the element type of the parameters.
pub(super) fn initial(
    carry_init: &Initializer,
    key: Key,
    x: &Tensor,
    features: usize,
    dtype: Option<DType>,
) -> Result<Tensor> {
    let init =
        carry_init.clone().with_shape(carry_shape(x, features)).with_dtype(dtype.unwrap_or(DType::F32));
    Ok(init.call(&key)?.to_device(x.device())?)
}

/// Whether the tensors of a carry fit to an input.
pub(super) fn check_carry<C: RnnCell>(cell: &C, carry: &C::Carry, x: &Tensor, features: usize) -> Result<()> {
    let expected = carry_shape(x, features);
    match carry.tensors().into_iter().find(|tensor| tensor.dims() != expected) {
        None => Ok(()),
        Some(tensor) => {
            let name = cell.module_name().unwrap_or("RnnCell");
            Err(Error::shape(format!("`{name}` got a carry of the wrong shape"))
                .expected(format!("{expected:?} for an input {:?}", x.dims()))
                .found(format!("{:?}", tensor.dims()))
                .remedy("begin with `cell.initialize_carry(key, &x)?`")
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
pub(super) fn between(gate: &Tensor, new: &Tensor, old: &Tensor) -> Result<Tensor> {
    add(&mul(&(1. - gate)?, new)?, &mul(gate, old)?)
}
