//! What the integration tests of the workspace share.
//!
//! - [`device`](device()): the CPU, or the CUDA device that `TREEX_TEST_DEVICE=cuda` asks for.
//! - [`bad_input`]: every public function with input that cannot be right.
//! - [`contract`]: what holds for every operation, over drawn shapes, views and options.
//! - [`oracle`]: fixtures with the numbers of another implementation.
//! - [`compare`]: comparisons up to a tolerance.
//! - [`gradients`]: a value with its gradients.
//! - `simulator`, on Linux: counts of the simulated CUDA device.
//! - [`threads`]: the same bits on any number of threads.
//!
//! This crate is not published and depends on treex-core, so only tests below `tests/` use it: unit tests below `src/`
//! are part of the published archives, and those of treex-core would see a second treex-core here.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

pub mod bad_input;
pub mod compare;
pub mod contract;
mod device;
mod differences;
pub mod gradients;
pub mod oracle;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub mod simulator;
pub mod threads;

pub use device::{NO_ELEMENTS, Skips, device, is_skipped, skip};
