//! Cells whose steps are one operation.

use std::fmt;

use candle_core::Tensor;
use treex_core::autograd::is_reference;
use treex_core::{Result, record};

use super::cell::{Carry, RnnCell, check_carry};
use super::steps::with_tensors;
use crate::linear::Linear;
use crate::ops::recurrent::cell::Cell;
use crate::ops::recurrent::order::Order;
use crate::ops::recurrent::{Affine, Operands, recurrent};

/// A cell as the operation over all steps takes it.
pub struct Fused<'a> {
    name: &'static str,
    features: usize,
    of_input: Vec<&'a Linear>,
    of_carry: Vec<&'a Linear>,
    run: Box<Run>,
}

type Run = dyn Fn(&Order, &Operands) -> Result<(Vec<Tensor>, Tensor)>;

impl<'a> Fused<'a> {
    /// A cell of so many features, and the layers that make its sums, in its order.
    pub(super) fn new<C: Cell<G, S>, const G: usize, const S: usize>(
        cell: C,
        features: usize,
        of_input: impl Into<Vec<&'a Linear>>,
        of_carry: impl Into<Vec<&'a Linear>>,
    ) -> Self {
        let run = move |order: &Order, operands: &Operands| recurrent(cell, order, operands);
        let (of_input, of_carry) = (of_input.into(), of_carry.into());
        Self { name: C::NAME, features, of_input, of_carry, run: Box::new(run) }
    }
}

impl fmt::Debug for Fused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All steps at once, from `carry`, of `x`, whose first step is like `sample`. Where the operation does not cover them
/// there is nothing, and they are made one by one.
pub(super) fn run<C: RnnCell>(
    cell: &C,
    carry: &C::Carry,
    order: &Order,
    x: &Tensor,
    sample: &Tensor,
) -> Result<Option<(C::Carry, Tensor)>> {
    let Some(fused) = cell.fused().filter(|_| !is_reference() && x.device().is_cpu()) else {
        return Ok(None);
    };
    let Fused { features, of_input, of_carry, run, .. } = &fused;
    check_carry(cell, carry, sample, *features)?;
    let tensors: Vec<_> = carry.tensors().into_iter().cloned().collect();
    let Some(h) = tensors.last() else { return Ok(None) };
    let affine = |linear: &&Linear, x: &Tensor| -> Result<Affine> {
        let (kernel, bias) = linear.parameters(x)?;
        Ok(Affine { kernel, bias })
    };
    let operands = Operands {
        x: x.clone(),
        of_input: of_input.iter().map(|linear| affine(linear, sample)).collect::<Result<_>>()?,
        of_carry: of_carry.iter().map(|linear| affine(linear, h)).collect::<Result<_>>()?,
        carry: tensors.clone(),
    };
    let all = || of_input.iter().chain(of_carry);
    let has_size = |affine: &Affine| {
        affine.kernel.dims().last() == Some(features)
            && affine.bias.as_ref().is_none_or(|bias| bias.dims() == [*features])
    };
    let is_covered = operands.of_input.iter().chain(&operands.of_carry).all(has_size)
        && *features > 0
        && all().all(|linear| linear.dtype.is_none());
    if !is_covered {
        return Ok(None);
    }
    let (last, y) = run(order, &operands)?;
    record(cell, sample, h);
    of_input.iter().for_each(|linear| record(*linear, sample, h));
    of_carry.iter().for_each(|linear| record(*linear, h, h));
    Ok(Some((with_tensors(carry, &last)?, y)))
}
