//! The operations of the layers. Each has a reference composition of Candle operations with the right gradient;
//! where it also has a kernel, [`treex_core::autograd::with_reference`] chooses between them.
//!
//! Not public API: the crate's own tests alone use what is exported here, and any release may change it.

pub(crate) mod add;
pub(crate) mod attention;
pub(crate) mod broadcast;
pub(crate) mod convolution;
pub(crate) mod derivative;
pub(crate) mod dropout;
pub(crate) mod einsum;
pub(crate) mod elementwise;
pub(crate) mod embed;
pub(crate) mod im2col;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod normal;

pub(crate) mod pooling;
pub(crate) mod recurrent;
pub(crate) mod rows;
pub(crate) mod softmax;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) mod vdot;

// What `tests/operations.rs` calls, and the layers do not export.
pub use convolution::{convolution, local_convolution};
pub use embed::{rows_of, rows_on_device};
pub use linear::linear;
pub use norm::{Extent, Normalized, Source, normalize};
pub use treex_kernels::window::Axis;

pub use crate::functional::normalization::Normalization;
