//! The CPU kernels of treex, over slices: nothing here knows tensors or trees.
//!
//! - How a loop runs: [`isa`] (the instruction set), [`vector`] (explicit vectors), [`parallel`] (all cores),
//!   [`fill`] and [`output`] (new memory that kernels write).
//! - What a loop computes with: [`float`] (element types), [`math`] (functions of one number), [`reduce`] (sums
//!   and maxima of rows and columns).
//! - Products of matrices: [`matmul`] (any size), [`gather_gemm`] (of rows gathered from memory, as in a
//!   convolution), [`microkernel`] (small ones, in the cache).
//!
//! The kernels of an operation are methods of a trait that each element type implements, so that this crate
//! compiles them once and a caller does not compile them again.
//!
//! Results are the same bits on any number of threads and with every instruction set.

#[macro_use]
mod entry_points;

pub mod add;
pub mod elementwise;
pub mod error;
pub mod fill;
pub mod float;
pub mod gather_gemm;
pub mod isa;
pub mod log_sum_exp;
pub mod math;
pub mod matmul;
pub mod microkernel;
pub mod output;
pub mod parallel;
pub mod reduce;
pub mod softmax;
pub mod sum_axis0;
pub mod vector;
pub mod xla_math;

pub use error::{Error, Result};
