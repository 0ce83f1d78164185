//! A recurrent cell over all steps of its sequences, as one operation.
//!
//! The products with the input are those of whole matrices, before the first step; so are, after the backward pass has
//! come back to the first step, the gradients of the kernels and of the input. What is left for a step is the product
//! of the carry and what the cell does to each feature ([`cell`]). Sequences share nothing, so each thread takes
//! some of them from one end to the other, and nobody waits at a step. Sequences are read and written where they lie,
//! in whatever order ([`order`]).
//!
//! The plain composition is that of the layers: `scan` over the steps of the cell.

pub(crate) mod cell;
pub(crate) mod order;

mod backward;
mod forward;
mod gru;
mod lstm;
mod mgu;
mod panels;
mod simple;
#[cfg(test)]
mod tests;

use std::cell::LazyCell;
use std::ops::Range;

use candle_core::{DType, Tensor, WithDType};
use treex_core::Result;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach_all, elements};
use treex_kernels::math::Real;
use treex_kernels::matmul::{Matrix, multiply_add, product};
use treex_kernels::vector::Vectors;

use self::backward::Cotangents;
use self::cell::Cell;
use self::forward::Forward;
pub(crate) use self::gru::Gru;
pub(crate) use self::lstm::Lstm;
pub(crate) use self::mgu::{Mgu, MguWithoutReset};
use self::order::Order;
pub(crate) use self::simple::Simple;
use crate::dtype::{common_dtype, wide_dtype};
use treex_kernels::sum_axis0::SumAxis0;

/// What the operation reads; all sizes fit, and there are steps and features.
#[derive(Clone)]
pub(crate) struct Operands {
    /// `[batch.., time, inputs]` or `[time, batch.., inputs]`, as the [`Order`] says.
    pub(crate) x: Tensor,
    /// The carry before the first step, each `[batch.., features]`.
    pub(crate) carry: Vec<Tensor>,
    /// What is done to the input for each sum of the cell that has a part of it.
    pub(crate) of_input: Vec<Affine>,
    /// What is done to the last tensor of the carry for each sum of the cell that has a part of it.
    pub(crate) of_carry: Vec<Affine>,
}

/// A kernel, `[inputs, features]` or `[features, features]`, and a bias `[features]`.
#[derive(Clone)]
pub(crate) struct Affine {
    pub(crate) kernel: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Operands {
    /// All of them, in order.
    pub(crate) fn tensors(&self) -> Vec<&Tensor> {
        let affine = self.of_input.iter().chain(&self.of_carry);
        let affine = affine.flat_map(|affine| [Some(&affine.kernel), affine.bias.as_ref()]).flatten();
        [&self.x].into_iter().chain(&self.carry).chain(affine).collect()
    }

    fn map(&self, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> candle_core::Result<Self> {
        let affine = |affine: &Affine| {
            Ok(Affine { kernel: f(&affine.kernel)?, bias: affine.bias.as_ref().map(&f).transpose()? })
        };
        let each = |all: &[Affine]| all.iter().map(affine).collect::<candle_core::Result<_>>();
        Ok(Self {
            x: f(&self.x)?,
            carry: self.carry.iter().map(&f).collect::<candle_core::Result<_>>()?,
            of_input: each(&self.of_input)?,
            of_carry: each(&self.of_carry)?,
        })
    }
}

/// The carry of each sequence where it ends, and the outputs of all steps, in the smallest type that holds all
/// operands; half types are computed in `f32`.
pub(crate) fn recurrent<C: Cell<G, S>, const G: usize, const S: usize>(
    cell: C,
    order: &Order,
    operands: &Operands,
) -> Result<(Vec<Tensor>, Tensor)> {
    let dtype = common_dtype(None, operands.tensors());
    let operands = operands.map(|tensor| tensor.to_dtype(wide_dtype(dtype)))?;
    let (carry, y) = match wide_dtype(dtype) {
        DType::F64 => at_once::<f64, C, G, S>(cell, order, &operands)?,
        _ => at_once::<f32, C, G, S>(cell, order, &operands)?,
    };
    let carry = carry.iter().map(|tensor| tensor.to_dtype(dtype)).collect::<candle_core::Result<_>>()?;
    Ok((carry, y.to_dtype(dtype)?))
}

fn at_once<T: Element, C: Cell<G, S>, const G: usize, const S: usize>(
    cell: C,
    order: &Order,
    operands: &Operands,
) -> Result<(Vec<Tensor>, Tensor)> {
    let tracked = operands.tensors().into_iter().any(Tensor::track_op);
    let now = operands.map(|tensor| tensor.detach().contiguous())?;
    let sizes = Sizes::of(order, &now)?;
    let first = beside(&now.carry.iter().map(Some).collect::<Vec<_>>(), sizes.features)?;
    let Forward { y, last, kept, before } =
        forward::forward::<T, C, G, S>(cell, &sizes, &now, first, tracked)?;
    let mut shape = now.x.dims().to_vec();
    shape.pop();
    shape.push(sizes.features);
    let carry = now.carry.iter().enumerate();
    let carry = carry.map(|(state, like)| OwnedStorage::new(sizes.state::<T, S>(&last, state), like.shape()));
    let outputs = [OwnedStorage::new(y, shape)].into_iter().chain(carry).collect::<Result<Vec<_>>>()?;
    let recurrent = Recurrent::<_, _, G, S> { cell, sizes, operands: now, kept, before };
    let mut outputs = attach_all(recurrent, &operands.tensors(), outputs)?;
    let carry = outputs.split_off(1);
    Ok((carry, outputs.swap_remove(0)))
}

/// The element types that this is computed in.
trait Element: WithDType + Real + Vectors + SumAxis0 {}

impl Element for f32 {}
impl Element for f64 {}

/// How large everything is.
#[derive(Clone, Debug)]
struct Sizes {
    order: Order,
    inputs: usize,
    features: usize,
}

impl Sizes {
    fn of(order: &Order, operands: &Operands) -> Result<Self> {
        let (inputs, features) = operands.of_input[0].kernel.dims2()?;
        Ok(Self { order: order.clone(), inputs, features })
    }

    /// The rows of the input and of the output.
    fn rows(&self) -> usize {
        self.order.time * self.order.items
    }

    /// The feature range of one of several vectors of features.
    #[inline(always)]
    fn of_part(&self, part: usize) -> Range<usize> {
        part * self.features..(part + 1) * self.features
    }

    /// One of the `N` parts of each row.
    fn columns<'a, T, const N: usize>(&self, all: &'a [T], part: usize) -> Result<Matrix<'a, T>> {
        let from = all.get(part * self.features..).unwrap_or_default();
        Ok(Matrix::strided(from, [self.rows(), self.features], [N * self.features, 1])?)
    }

    /// One of the `S` tensors of a carry.
    fn state<T: Copy, const S: usize>(&self, carry: &[T], state: usize) -> Vec<T> {
        let rows = carry.chunks_exact(S * self.features);
        rows.flat_map(|row| &row[self.of_part(state)]).copied().collect()
    }

    /// How many sequences go through time together.
    fn group(&self, sums: usize) -> usize {
        // A step is a product and the cell.
        let work = self.order.items * self.order.time * sums * self.features * self.features;
        let threads = if work < PARALLEL { 1 } else { rayon::current_num_threads() };
        self.order.items.div_ceil(threads).max(1).next_multiple_of(treex_kernels::microkernel::ROWS)
    }
}

/// Fewer multiplications than this are not worth waking other threads.
const PARALLEL: usize = 1 << 18;

/// How many features are computed side by side.
const LANES: usize = 32;

/// The rows of `parts`, `[items, features]` each, side by side; zeros for one that is not there. Empty if none is.
fn beside<T: Element>(parts: &[Option<&Tensor>], features: usize) -> Result<Vec<T>> {
    let Some(len) = parts.iter().flatten().map(|part| part.elem_count()).next() else {
        return Ok(Vec::new());
    };
    let mut all = vec![T::of(0.); len * parts.len()];
    for (index, part) in parts.iter().enumerate() {
        let Some(part) = part else { continue };
        let part = elements::<T>(part)?;
        let rows = all.chunks_exact_mut(parts.len() * features).zip(part.chunks_exact(features));
        rows.for_each(|(all, row)| all[index * features..(index + 1) * features].copy_from_slice(row));
    }
    Ok(all)
}

/// A piece with zeros behind it.
#[inline(always)]
fn padded<R: Real>(piece: &[R]) -> [R; LANES] {
    let mut lanes = [R::of(0.); LANES];
    lanes[..piece.len()].copy_from_slice(piece);
    lanes
}

/// Adds element by element, as far as both go.
#[inline(always)]
fn add_to<R: Real>(to: &mut [R], from: &[R]) {
    to.iter_mut().zip(from).for_each(|(to, x)| *to = *to + *x);
}

struct Recurrent<T, C, const G: usize, const S: usize> {
    cell: C,
    sizes: Sizes,
    operands: Operands,
    kept: Vec<T>,
    before: Vec<T>,
}

impl<T: Element, C: Cell<G, S>, const G: usize, const S: usize> Operation for Recurrent<T, C, G, S> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let Self { cell, sizes, operands, kept, before } = self;
        let (rows, features) = (sizes.rows(), sizes.features);
        let cotangents = cx.cotangents().iter().map(|x| x.as_ref().map(Tensor::contiguous).transpose());
        let cotangents = cotangents.collect::<candle_core::Result<Vec<_>>>()?;
        let (sums, of_first) = {
            let y = cotangents[0].as_ref().map(elements::<T>).transpose()?;
            let last = beside(&cotangents[1..].iter().map(Option::as_ref).collect::<Vec<_>>(), features)?;
            let cotangents = Cotangents { y: y.as_deref(), last: (!last.is_empty()).then_some(&last) };
            backward::backward::<T, C, G, S>(*cell, sizes, operands, [kept, before], &cotangents)?
        };
        let of_sum = |sum: usize| sizes.columns::<T, G>(&sums, sum);
        let of_biases = LazyCell::new(|| T::sum_axis0(&sums, G * features));
        let mut gradients = Vec::new();
        let mut give = |like: &Tensor, compute: &dyn Fn() -> Result<Vec<T>>| -> Result<()> {
            let gradient = || -> Result<_> { Ok(OwnedStorage::new(compute()?, like.shape())?.into_tensor()) };
            gradients.push(cx.wanted(gradients.len()).then(gradient).transpose()?);
            Ok(())
        };
        give(&operands.x, &|| {
            let mut dx = vec![T::of(0.); rows * sizes.inputs];
            for (index, affine) in operands.of_input.iter().enumerate() {
                let kernel = elements::<T>(&affine.kernel)?;
                let kernel = Matrix::new(&kernel, sizes.inputs, features)?.t();
                multiply_add(&mut dx, sizes.inputs, of_sum(C::FROM_INPUT + index)?, kernel, T::of(1.), true)?;
            }
            Ok(dx)
        })?;
        for (state, like) in operands.carry.iter().enumerate() {
            give(like, &|| Ok(sizes.state::<T, S>(&of_first, state)))?;
        }
        let x = elements::<T>(&operands.x)?;
        let x = Matrix::new(&x, rows, sizes.inputs)?;
        let carry = sizes.columns::<T, S>(before, S - 1)?;
        for (read, first, affine) in [(x, C::FROM_INPUT, &operands.of_input), (carry, 0, &operands.of_carry)]
        {
            for (sum, affine) in (first..).zip(affine) {
                give(&affine.kernel, &|| Ok(product(read.t(), of_sum(sum)?, None, true)?))?;
                if let Some(bias) = &affine.bias {
                    give(bias, &|| Ok(of_biases[sizes.of_part(sum)].to_vec()))?;
                }
            }
        }
        Ok(gradients)
    }
}
