//! Operations with a custom gradient, on Candle's graph.
//!
//! In reading order: [`Operation`] (what an operation implements), `node` (how it becomes a part of Candle's
//! graph), `op_instance` (its backward pass), `producers` (which operation a tensor came from),
//! `accumulate` (where the gradients of variables end), [`custom_vjp`], `nested` and `keeper` (gradients of gradients);
//! then how kernels reach the memory of
//! tensors: [`elements`], [`OwnedStorage`], [`StorageGuard`].
//!
//! Each operation with a kernel also has a reference composition of Candle operations: the oracle of its tests,
//! and the path for devices and element types without a kernel. [`with_reference`] chooses it.

pub(crate) mod accumulate;
mod custom_vjp;
mod elements;
mod keeper;
mod match_float;
pub(crate) mod nested;
mod node;
mod op_instance;
mod operation;
pub(crate) mod producers;
mod reference;
mod storage;
mod storage_guard;
mod sum;

pub use custom_vjp::custom_vjp;
pub use elements::{Element, elements};
pub use half::{bf16, f16};
pub use keeper::enable_nested_gradients;
pub use nested::{is_nested, saved};
pub use operation::{BackwardContext, Operation, attach, attach_all, name_of, reshape};
pub use producers::is_recording;
pub use reference::{is_reference, with_reference};
pub use storage::OwnedStorage;
pub use storage_guard::StorageGuard;
pub(crate) use sum::GradientSum;

pub use crate::tensors::storage_id;
