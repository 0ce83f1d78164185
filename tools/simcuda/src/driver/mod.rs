//! The driver: what a program reaches by `libcuda.so.1`.
//!
//! All is safe Rust behind one mutex but for `calls`, the functions with C's calling convention, and `pinned`, the memory
//! of the host that both sides hold pointers to.

pub mod attribute;
#[allow(unsafe_code)]
pub mod calls;
pub mod capture;
mod copy;
pub mod device;
pub mod error;
mod event;
mod graph;
mod heap;
pub mod module;
pub mod node;
#[allow(unsafe_code)]
pub mod pinned;
pub mod settings;
pub mod stream;
#[cfg(test)]
#[allow(unsafe_code)]
mod tests;
pub mod work;
