//! The engine of a chain: elementwise rules, and how they run over all leaves at the speed of memory.
//!
//! A transformation asks [`Updates`] for what it wants done; the optimizer runs it all. In reading order:
//! [`Number`] and [`Rule`] (the mathematics of one element), [`Updates`] (what is to be done), then the passes
//! over memory, and the same as operations on tensors.

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
