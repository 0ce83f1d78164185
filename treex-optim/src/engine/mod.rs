//! The engine of a chain: runs elementwise rules over all leaves at memory bandwidth.
//!
//! A transformation records its work on [`Updates`]; the optimizer runs it. In reading order: [`Number`]
//! and [`Rule`] (the mathematics of one element), [`Updates`] (the recorded work), `run` (the passes over
//! memory), `cpu` (a pass as loops over slices), `device` (the same pass as a kernel of a device) and `reference` (the same
//! pass as tensor operations).

mod batch;
mod cpu;
mod device;
mod erased;
mod factor;
mod fusion;
mod job;
mod loops;
mod pass;
mod piece;
mod reference;
mod rule;
mod run;
mod slices;
mod sums;
mod updates;

pub(crate) use device::{factor_on_device, times_scalar, unchanged_unless};
pub use factor::Factor;
pub(crate) use job::Target;
pub(crate) use rule::Times;
pub use rule::{Rule, Squares, Terms};
pub(crate) use run::{run, sum};
pub use sums::Sums;
pub use treex_kernels::number::{Lane, Number};
pub use updates::Updates;
