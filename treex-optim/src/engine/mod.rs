//! The engine of a chain: runs elementwise rules over all leaves at memory bandwidth.
//!
//! A transformation records its work on [`Updates`]; the optimizer runs it. In reading order: [`Number`]
//! and [`Rule`] (the mathematics of one element), [`Updates`] (the recorded work), `run` (the passes over
//! memory), `cpu` (a pass as loops over slices) and `reference` (the same pass as tensor operations).

mod batch;
mod cpu;
mod erased;
mod expression;
mod fusion;
mod job;
mod loops;
mod number;
mod pass;
mod piece;
mod reference;
mod rule;
mod run;
mod slices;
mod updates;

pub(crate) use job::Target;
pub use number::{Lane, Number};
pub use rule::{Rule, Squares, Terms};
pub(crate) use run::{run, sum};
pub use updates::{Sums, Updates};
