//! The texts of device kernels in other forms than CUDA's: run as host C++ with checked memory against the kernels of the CPU,
//! and parsed as Metal.
//!
//! ```text
//! cargo test -p treex-kernels --test dialect
//! ```
//!
//! Needs `c++` with the fibers of POSIX (`ucontext.h`); without it the tests fail, or, where the environment variable `TREEX_NO_CXX`
//! is 1, say that they are skipped.
//!
//! [`kernels`] has a row for each program of kernels, and [`sources`] compares these with the sources. [`faults`] has the mistakes
//! that the host form catches, [`metal`] those that the Metal form's types catch.

#![allow(clippy::unwrap_used)] // a test says where it failed

mod compiler;
mod element;
mod faults;
mod host;
mod kernels;
mod layout;
mod metal;
mod sources;
mod text;
