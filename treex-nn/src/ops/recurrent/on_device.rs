//! The same operation on a device: the products with the input of all steps together, then for each step a product with the carry and
//! one launch.

use candle_core::{D, Tensor};
use treex_core::Result;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach_all};
use treex_core::device::recurrent::{Gradients, Inputs, Sequences, Steps};
use treex_core::device::sum_axis0::sum_axis0;
use treex_core::matmul::product;
use treex_kernels::recurrent::any_cell::AnyCell;
use treex_kernels::recurrent::cell::Counts;

use super::{Affine, Operands};
use crate::dtype::{common_dtype, wide_dtype};

/// The carry of each sequence behind each step, of `x` `[time, batch.., inputs]`: each tensor `[time, batch.., features]`, of which the
/// last is the output. In the smallest type that holds all operands; half types are computed in `F32`.
pub(crate) fn recurrent(cell: AnyCell, operands: &Operands) -> Result<Vec<Tensor>> {
    let dtype = common_dtype(None, operands.iter());
    let wide = wide_dtype(dtype);
    let operands = operands.try_map(|x| x.to_dtype(wide))?;
    let inputs: Vec<_> = operands.iter().collect();
    let features = operands.carry[0].dim(D::Minus1)?;
    let (time, items) = (operands.x.dim(0)?, operands.carry[0].elem_count() / features);
    let detached = operands.try_map(|x| x.detach().contiguous())?;
    let sequences = Sequences { cell, time, items, features };
    let operation = OfRecurrent::new(sequences, detached)?;
    let dims = [&[time], operands.carry[0].dims()].concat();
    let outputs = (0..cell.counts().states)
        .map(|state| OwnedStorage::take(operation.steps.carries().get(state)?)?.reshape(dims.as_slice()));
    let outputs = outputs.collect::<Result<_>>()?;
    let outputs = attach_all(operation, &inputs, outputs)?;
    outputs.iter().map(|output| Ok(output.to_dtype(dtype)?)).collect()
}

struct OfRecurrent {
    operands: Operands,
    /// The kernels of all gates, side by side.
    of_input: Tensor,
    of_carry: Tensor,
    sequences: Sequences,
    steps: Steps,
}

impl OfRecurrent {
    /// Runs all steps.
    fn new(sequences: Sequences, operands: Operands) -> Result<Self> {
        let Sequences { time, items, .. } = sequences;
        let kernels =
            |layers: &[Affine]| side_by_side(layers.iter().map(|layer| layer.kernel.clone()).collect());
        let biases = |layers: &[Affine]| -> Result<Option<Tensor>> {
            let Some(first) = layers.iter().find_map(|layer| layer.bias.as_ref()) else { return Ok(None) };
            let of_layer = |layer: &Affine| layer.bias.clone().map_or_else(|| first.zeros_like(), Ok);
            let biases = layers.iter().map(of_layer).collect::<candle_core::Result<Vec<_>>>()?;
            side_by_side(biases).map(Some)
        };
        let (of_input, of_carry) = (kernels(&operands.of_input)?, kernels(&operands.of_carry)?);
        let (input_bias, carry_bias) = (biases(&operands.of_input)?, biases(&operands.of_carry)?);
        let x = operands.x.reshape((time * items, ()))?;
        let products = product(&x, &of_input)?.into_tensor();
        let inputs =
            Inputs { products: &products, input_bias: input_bias.as_ref(), carry_bias: carry_bias.as_ref() };
        let first = Tensor::stack(&operands.carry, 0)?.reshape((operands.carry.len(), items, ()))?;
        let mut steps = Steps::new(sequences, first)?;
        for step in 0..time {
            let of_step = product(&steps.before(step)?, &of_carry)?.into_tensor();
            steps.step(step, inputs, &of_step)?;
        }
        Ok(Self { operands, of_input, of_carry, sequences, steps })
    }

    /// The outputs before each step, `[time * items, features]`.
    fn before(&self) -> Result<Tensor> {
        let Sequences { time, items, features, .. } = self.sequences;
        let first = self.steps.before(0)?;
        if time == 1 {
            return Ok(first);
        }
        let outputs = self.steps.carries().get(self.operands.carry.len() - 1)?.narrow(0, 0, time - 1)?;
        Ok(Tensor::cat(&[first, outputs.reshape(((time - 1) * items, features))?], 0)?)
    }
}

/// Tensors next to each other along the last dimension.
fn side_by_side(tensors: Vec<Tensor>) -> Result<Tensor> {
    match <[Tensor; 1]>::try_from(tensors) {
        Ok([only]) => Ok(only),
        Err(tensors) => Ok(Tensor::cat(&tensors, D::Minus1)?.contiguous()?),
    }
}

impl Operation for OfRecurrent {
    fn name(&self) -> &'static str {
        self.sequences.cell.name()
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let Self { operands, of_input, of_carry, sequences, steps } = self;
        let Sequences { cell, time, .. } = *sequences;
        let Counts { states, .. } = cell.counts();
        let all = cx.cotangents().iter().map(|x| x.as_ref().map(Tensor::contiguous).transpose());
        let all = all.collect::<candle_core::Result<Vec<_>>>()?;
        let mut gradients = steps.backward(None)?;
        // The gradient of the output before a step, through its products with the carry.
        let through = |gradients: &Gradients<'_>, step| product(&gradients.of_step(step)?, &of_carry.t()?);
        for step in (0..time).rev() {
            let product = (step + 1 < time).then(|| through(&gradients, step + 1)).transpose()?;
            gradients.step(step, product.map(OwnedStorage::into_tensor).as_ref(), &all)?;
        }
        let of_first = through(&gradients, 0)?.into_tensor();
        let [dcarry, dinput, dstep] = gradients.finish()?;

        let mut results = Vec::new();
        let dx = || -> Result<_> {
            Ok(product(&dinput, &of_input.t()?)?.into_tensor().reshape(operands.x.shape())?)
        };
        results.push(cx.wanted(0).then(dx).transpose()?);
        for (state, carry) in operands.carry.iter().enumerate() {
            let of_state = || -> Result<_> {
                let own = dcarry.get(state)?;
                let sum = if state + 1 == states { (own + &of_first)? } else { own.force_contiguous()? };
                Ok(sum.reshape(carry.shape())?)
            };
            results.push(cx.wanted(results.len()).then(of_state).transpose()?);
        }
        let x = operands.x.reshape((dinput.dim(0)?, ()))?;
        for (input, layers, gradient) in
            [(x, &operands.of_input, &dinput), (self.before()?, &operands.of_carry, &dstep)]
        {
            let wants = (results.len()..results.len() + 2 * layers.len()).any(|index| cx.wanted(index));
            let kernels =
                wants.then(|| product(&input.t()?, gradient)).transpose()?.map(OwnedStorage::into_tensor);
            let has_bias = layers.iter().any(|layer| layer.bias.is_some());
            let biases = (wants && has_bias).then(|| sum_axis0(gradient, gradient.dim(1)?)).transpose()?;
            let biases = biases.map(OwnedStorage::into_tensor);
            for (gate, layer) in layers.iter().enumerate() {
                let part = |all: &Option<Tensor>, like: &Tensor| -> Result<Option<Tensor>> {
                    let Some(all) = all else { return Ok(None) };
                    let part = all.narrow(D::Minus1, gate * sequences.features, sequences.features)?;
                    Ok(Some(part.contiguous()?.reshape(like.shape())?))
                };
                results.push(part(&kernels, &layer.kernel)?);
                if let Some(bias) = &layer.bias {
                    results.push(part(&biases, bias)?);
                }
            }
        }
        Ok(results)
    }
}
