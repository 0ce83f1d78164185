//! The CPU kernels of treex, over slices; independent of tensors and trees.
//!
//! - How a loop runs: [`isa`] (the instruction set), [`vector`] (explicit vectors), [`parallel`] (all cores),
//!   [`fill`] and [`output`] (new memory that kernels write).
//! - What a loop computes with: [`float`] (element types), [`math`] (functions of one number), [`reduce`] (sums
//!   and maxima), [`number`] (what an elementwise function is generic over) and [`expression`] (the same function as source
//!   of a device kernel).
//! - Matrix products: [`matmul`] (any size), [`gather_gemm`] (of rows gathered from memory, as in a
//!   convolution).
//! - Random numbers: [`random`].
//! - Operations: [`softmax`], [`norm`], [`attention`], [`convolution`], [`im2col`], [`pooling`], [`recurrent`],
//!   [`embedding`], [`elementwise`], [`exact_gelu`], [`dropout`], [`dot`], [`add`], and the losses [`cross_entropy`] and
//!   [`squared_error`].
//!
//! The kernels of an operation are methods of a trait that each element type implements, so that they are compiled
//! once, in this crate, and not again by its callers.
//!
//! Results are the same bits on any number of threads and with every instruction set.
//!
//! No argument makes a safe function panic: sizes that do not fit together, that overflow, or that memory cannot hold are
//! an [`Error`]. The exception is what a caller's own code runs: [`Fill::write`](fill::Fill::write), called with a piece
//! that is not inside of its buffer, panics, and a panic of a closure or a [`Kernel`](isa::Kernel) is passed on. Scratch
//! memory as large as the slices that a caller already has is allocated as a `Vec` is, which aborts where there is none.

#[macro_use]
mod entry_points;

pub mod add;
pub mod attention;
pub mod convolution;
pub mod cross_entropy;
pub mod dialect;
pub mod dot;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod error;
pub mod exact_gelu;
pub mod expression;
pub mod fill;
pub mod float;
pub mod gather_gemm;
pub mod im2col;
pub mod isa;
pub mod log_sum_exp;
pub mod math;
pub mod matmul;
mod memory;
mod microkernel;
pub mod norm;
pub mod number;
pub mod output;
pub mod parallel;
pub mod pooling;
pub mod random;
pub mod recurrent;
pub mod reduce;
mod sealed;
pub mod softmax;
pub mod squared_error;
pub mod sum_axis0;
pub mod vector;
pub mod window;
pub mod xla_math;

pub use error::{Error, Result};
