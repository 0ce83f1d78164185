//! A recurrent cell as one operation over all steps.

use std::fmt;

use candle_core::Tensor;
use treex_core::{Result, record};

use crate::layers::linear::Linear;
use crate::ops::recurrent::order::Order;
use crate::ops::recurrent::{Affine, AnyCell, Operands, recurrent, recurrent_on_device};

/// A cell as the operation over all steps takes it.
pub struct Fused<'a> {
    cell: AnyCell,
    pub(super) features: usize,
    of_input: Vec<&'a Linear>,
    of_carry: Vec<&'a Linear>,
}

impl<'a> Fused<'a> {
    /// A cell of `features` features, and the layers whose outputs it adds up, in its order.
    pub(super) fn new(
        cell: impl Into<AnyCell>,
        features: usize,
        of_input: impl Into<Vec<&'a Linear>>,
        of_carry: impl Into<Vec<&'a Linear>>,
    ) -> Self {
        Self { cell: cell.into(), features, of_input: of_input.into(), of_carry: of_carry.into() }
    }

    /// The operands for an input `x` whose first step is `sample`. `None` where the operation does not cover the
    /// layers: sizes that differ, or a `dtype` of their own.
    pub(super) fn operands(&self, x: &Tensor, sample: &Tensor, carry: &[Tensor]) -> Result<Option<Operands>> {
        let Some(h) = carry.last() else { return Ok(None) };
        let affine = |linear: &&Linear, x: &Tensor| -> Result<Affine> {
            let (kernel, bias) = linear.parameters(x)?;
            Ok(Affine { kernel, bias })
        };
        let operands = Operands {
            x: x.clone(),
            of_input: self.of_input.iter().map(|linear| affine(linear, sample)).collect::<Result<_>>()?,
            of_carry: self.of_carry.iter().map(|linear| affine(linear, h)).collect::<Result<_>>()?,
            carry: carry.to_vec(),
        };
        let has_size = |affine: &Affine| {
            affine.kernel.dims().last() == Some(&self.features)
                && affine.bias.as_ref().is_none_or(|bias| bias.dims() == [self.features])
        };
        let is_covered = operands.of_input.iter().chain(&operands.of_carry).all(has_size)
            && self.features > 0
            && self.of_input.iter().chain(&self.of_carry).all(|linear| linear.dtype.is_none());
        Ok(is_covered.then_some(operands))
    }

    /// The tensors of the last carry, and the outputs of all steps.
    pub(super) fn run(&self, order: &Order, operands: &Operands) -> Result<(Vec<Tensor>, Tensor)> {
        recurrent(self.cell, order, operands)
    }

    /// The tensors of the carry behind each step, of an input on a device whose first dimension is time; the last is the output.
    pub(super) fn run_on_device(&self, operands: &Operands) -> Result<Vec<Tensor>> {
        recurrent_on_device(self.cell, operands)
    }

    /// Reports the layers to a summary.
    pub(super) fn record(&self, sample: &Tensor, h: &Tensor) {
        self.of_input.iter().for_each(|linear| record(*linear, sample, h));
        self.of_carry.iter().for_each(|linear| record(*linear, h, h));
    }
}

impl fmt::Debug for Fused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cell.name())
    }
}
