//! A recurrent cell over all steps of its sequences, as one operation; see [`treex_kernels::recurrent`].
//!
//! The reference composition is that of the layers: `scan` over the steps of the cell.

mod on_device;
#[cfg(test)]
mod tests;

use candle_core::Tensor;
use treex_core::autograd::{BackwardContext, Element, Operation, OwnedStorage, attach_all, elements};
use treex_core::{Result, match_float};
pub(crate) use treex_kernels::recurrent::any_cell::AnyCell;
use treex_kernels::recurrent::operands::{self, Sizes};
use treex_kernels::recurrent::{Forward, Recurrent, Saved};
pub(crate) use treex_kernels::recurrent::{Gru, Lstm, Mgu, MguWithoutReset, Simple, order};

pub(crate) use self::on_device::recurrent as recurrent_on_device;
use self::order::Order;
use crate::dtype::{common_dtype, wide_dtype};

/// The inputs of the operation; all sizes fit, and there are steps and features.
pub(crate) type Operands = operands::Operands<Tensor>;

/// A kernel and a bias.
pub(crate) type Affine = operands::Affine<Tensor>;

/// The carry of each sequence after its last step, and the outputs of all steps, in the smallest type that holds all
/// operands; half types are computed in `f32`.
pub(crate) fn recurrent(cell: AnyCell, order: &Order, operands: &Operands) -> Result<(Vec<Tensor>, Tensor)> {
    let dtype = common_dtype(None, operands.iter());
    let wide = wide_dtype(dtype);
    let operands = operands.try_map(|x| x.to_dtype(wide))?;
    let outputs = match_float!(
        wide,
        T in [f64] => forward::<T>(cell, order, &operands)?,
        else forward::<f32>(cell, order, &operands)?
    );
    let outputs = outputs.iter().map(|output| output.to_dtype(dtype));
    let mut outputs = outputs.collect::<candle_core::Result<Vec<_>>>()?;
    let carry = outputs.split_off(1);
    Ok((carry, outputs.swap_remove(0)))
}

/// The outputs of all steps, then the tensors of the carry.
fn forward<T: Element + Recurrent>(cell: AnyCell, order: &Order, operands: &Operands) -> Result<Vec<Tensor>> {
    let inputs: Vec<_> = operands.iter().collect();
    let save = inputs.iter().any(|input| input.track_op());
    let operands = operands.try_map(|x| x.detach().contiguous())?;
    let (width, features) = operands.of_input[0].kernel.dims2()?;
    let sizes = Sizes { order: order.clone(), inputs: width, features };
    let Forward { y, carry, saved } = {
        let operands = operands.try_map(elements::<T>)?;
        T::recurrent(cell, &sizes, &operands.as_slices(), save)?
    };
    let mut shape = operands.x.dims().to_vec();
    shape.pop();
    shape.push(features);
    let carry = carry.into_iter().zip(&operands.carry);
    let carry = carry.map(|(carry, like)| OwnedStorage::new(carry, like.shape()));
    let outputs = [OwnedStorage::new(y, shape)].into_iter().chain(carry).collect::<Result<_>>()?;
    attach_all(OfRecurrent { cell, sizes, operands, saved }, &inputs, outputs)
}

struct OfRecurrent<T> {
    cell: AnyCell,
    sizes: Sizes,
    operands: Operands,
    saved: Saved<T>,
}

impl<T: Element + Recurrent> Operation for OfRecurrent<T> {
    fn name(&self) -> &'static str {
        self.cell.name()
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let Self { cell, sizes, operands, saved } = self;
        let cotangents = cx.cotangents().iter().map(|x| x.as_ref().map(Tensor::contiguous).transpose());
        let cotangents = cotangents.collect::<candle_core::Result<Vec<_>>>()?;
        let cotangents = cotangents.iter().map(|x| x.as_ref().map(elements::<T>).transpose());
        let cotangents = cotangents.collect::<Result<Vec<_>>>()?;
        let cotangents: Vec<_> = cotangents.iter().map(Option::as_deref).collect();
        let wanted: Vec<_> = (0..operands.iter().count()).map(|index| cx.wanted(index)).collect();
        let slices = operands.try_map(elements::<T>)?;
        let gradients =
            T::recurrent_backward(*cell, sizes, &slices.as_slices(), saved, &cotangents, &wanted)?;
        let tensor = |(gradient, like): (Option<Vec<T>>, &Tensor)| {
            gradient.map(|dx| Ok(OwnedStorage::new(dx, like.shape())?.into_tensor())).transpose()
        };
        gradients.into_iter().zip(operands.iter()).map(tensor).collect()
    }
}
