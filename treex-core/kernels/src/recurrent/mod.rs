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

pub mod any_cell;
pub mod cell;
pub mod operands;
pub mod order;

mod backward;
mod forward;
mod gru;
mod lstm;
mod mgu;
mod packing;
mod run;
mod simple;
#[cfg(test)]
mod tests;

use self::any_cell::{AnyCell, match_cell};
pub use self::gru::Gru;
pub use self::lstm::Lstm;
pub use self::mgu::{Mgu, MguWithoutReset};
use self::operands::{Operands, Sizes, check};
pub use self::run::{Forward, Saved};
pub use self::simple::Simple;
use crate::error::Result;
use crate::matmul::MatMul;
use crate::sum_axis0::SumAxis0;
use crate::vector::Vectors;

/// The kernels for devices, of [all elements](crate::dialect::EACH), with `GATES`, `STATES`, `FROM_INPUT`, `FROM_CARRY`, `IS_BACKWARD`
/// and the flags of that kernel defined. `CONSTANTS`, `STATEMENTS` and `RESULTS` stand for what is [printed](crate::expression::Source) of the cell.
pub const DIALECT: &str = include_str!("recurrent.h");

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
