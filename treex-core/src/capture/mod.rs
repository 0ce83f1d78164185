//! A captured step: what a whole training step asks of a CUDA device, recorded once and then given to it as one piece of work.
//! The counterpart of `jax.jit`.

#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "nothing is recorded"))]
mod columns;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "nothing is recorded"))]
pub mod condition;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "nothing is recorded"))]
mod conditions;
#[cfg(feature = "cuda")]
mod graph;
mod held;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "nothing is recorded"))]
mod keys;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "nothing is recorded"))]
mod leaves;
pub(crate) mod phase;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "nothing is recorded"))]
pub mod plan;
#[cfg(feature = "cuda")]
mod recorded;
mod step;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "nothing is recorded"))]
mod tensors;

pub use held::{Held, Trees};
pub use step::{Captured, capture};
pub use tensors::Tensors;
