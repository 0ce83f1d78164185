//! A recurrent cell over all steps of its sequences.
//!
//! The products with the input are products of whole matrices before the first step; likewise, after the last step of
//! the backward pass, the gradients of the kernels and of the input. A step is then one product of the carry with the
//! recurrent kernels, and the functions of the cell for each feature ([`cell`]). Sequences are independent: each thread
//! takes a group of them through all steps, and threads never wait for each other between steps. Sequences are read and
//! written in place, in any [`order`].
//!
//! Layouts: a row is one step of one sequence. Gates are `[rows, G, features]` and carries `[rows, S, features]`, both
//! in the order of the inputs' rows; the carry of a step is `[items, S, features]`.

pub mod cell;
pub mod operands;
pub mod order;

mod backward;
mod forward;
mod gru;
mod lstm;
mod mgu;
mod packing;
mod simple;
#[cfg(test)]
mod tests;

use self::cell::{AnyCell, match_cell};
pub use self::gru::Gru;
pub use self::lstm::Lstm;
pub use self::mgu::{Mgu, MguWithoutReset};
use self::operands::{Operands, Sizes, check};
pub use self::simple::Simple;
use crate::error::Result;
use crate::math::Real;
use crate::matmul::MatMul;
use crate::sum_axis0::SumAxis0;
use crate::vector::Vectors;

entry_points! {
    /// A recurrent cell over all steps of its sequences, and its gradients.
    pub trait Recurrent: Vectors for [f32, f64] {
        /// The outputs of all steps, and the carry of each sequence after its last step. With `save`, also what
        /// [`recurrent_backward`](Self::recurrent_backward) needs.
        ///
        /// # Errors
        /// If operands, sizes and cell do not fit together, or memory cannot be allocated.
        fn recurrent(
            cell: AnyCell,
            sizes: &Sizes,
            operands: &Operands<&[Self]>,
            save: bool,
        ) -> Result<Forward<Self>> = forward;

        /// The gradients of the `wanted` operands, in the order of [`Operands::iter`], from the gradients of the
        /// outputs and of each tensor of the last carry; `None` for zeros.
        ///
        /// # Errors
        /// If operands, gradients, sizes and cell do not fit together, `saved` is of another run, or memory cannot be
        /// allocated.
        fn recurrent_backward(
            cell: AnyCell,
            sizes: &Sizes,
            operands: &Operands<&[Self]>,
            saved: &Saved<Self>,
            cotangents: &[Option<&[Self]>],
            wanted: &[bool],
        ) -> Result<Vec<Option<Vec<Self>>>> = backward;
    }
}

/// The results of a run.
#[derive(Debug)]
pub struct Forward<T> {
    /// The outputs, `[rows, features]`.
    pub y: Vec<T>,
    /// Each tensor of the carry after the last step of each sequence, `[items, features]`.
    pub carry: Vec<Vec<T>>,
    /// What the backward pass needs.
    pub saved: Saved<T>,
}

/// What the backward pass of a run needs, complete if the run was told to save it.
#[derive(Debug)]
pub struct Saved<T> {
    gates: Vec<T>,
    /// The carry before each step.
    carries: Vec<T>,
}

fn forward<T: MatMul>(
    cell: AnyCell,
    sizes: &Sizes,
    operands: &Operands<&[T]>,
    save: bool,
) -> Result<Forward<T>> {
    let counts = cell.counts();
    sizes.check(counts)?;
    operands.check(counts, sizes)?;
    match_cell!(cell, cell => forward::forward(cell, sizes, operands, save))
}

fn backward<T: MatMul + SumAxis0>(
    cell: AnyCell,
    sizes: &Sizes,
    operands: &Operands<&[T]>,
    saved: &Saved<T>,
    cotangents: &[Option<&[T]>],
    wanted: &[bool],
) -> Result<Vec<Option<Vec<T>>>> {
    let counts = cell.counts();
    sizes.check(counts)?;
    operands.check(counts, sizes)?;
    let (row, rows, items) = (sizes.features, sizes.rows(), sizes.order.items);
    check("the saved gates of a recurrent cell", rows * counts.gates * row, saved.gates.len())?;
    check("the saved carries of a recurrent cell", rows * counts.states * row, saved.carries.len())?;
    check("the gradients of a recurrent cell's outputs", 1 + counts.states, cotangents.len())?;
    for (rows, cotangent) in [rows].into_iter().chain([items].into_iter().cycle()).zip(cotangents) {
        let len = cotangent.map_or(rows * row, <[T]>::len);
        check("the gradient of a recurrent cell's output", rows * row, len)?;
    }
    check("the wanted gradients of a recurrent cell", operands.iter().count(), wanted.len())?;
    match_cell!(cell, cell => backward::backward(cell, sizes, operands, saved, cotangents, wanted))
}

/// Features that are computed side by side.
const LANES: usize = 32;

/// `[items, features]` each, concatenated to `[items, parts, features]`; zeros for a part that is `None`. Empty if all
/// are.
fn concatenate<T: Real>(parts: &[Option<&[T]>], features: usize) -> Vec<T> {
    let Some(len) = parts.iter().flatten().map(|part| part.len()).next() else {
        return Vec::new();
    };
    let mut all = vec![T::of(0.); len * parts.len()];
    for (index, part) in parts.iter().enumerate() {
        let Some(part) = part else { continue };
        let rows = all.chunks_exact_mut(parts.len() * features).zip(part.chunks_exact(features));
        rows.for_each(|(all, row)| all[index * features..(index + 1) * features].copy_from_slice(row));
    }
    all
}

/// At most [`LANES`] features, padded with zeros.
#[inline(always)]
fn padded<R: Real>(piece: &[R]) -> [R; LANES] {
    let mut lanes = [R::of(0.); LANES];
    lanes[..piece.len()].copy_from_slice(piece);
    lanes
}

/// Adds element by element, up to the end of the shorter one.
#[inline(always)]
fn add_to<R: Real>(to: &mut [R], from: &[R]) {
    to.iter_mut().zip(from).for_each(|(to, x)| *to = *to + *x);
}
