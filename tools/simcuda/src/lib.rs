//! A CUDA device without a GPU. See the README for what it can tell, and what it cannot.
#![deny(unsafe_code)] // but for the functions of C, and the memory of the host that both sides hold pointers to

pub mod blas;
pub mod counts;
pub mod driver;
pub mod fault;
pub mod launch;
pub mod memory;
pub mod ptx;
pub mod rand;
mod splitmix;
