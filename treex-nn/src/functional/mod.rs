//! Functions without parameters or state, as in PyTorch's `torch.nn.functional`.

pub mod activations;
pub(crate) mod attention;
pub(crate) mod dropout;
pub(crate) mod indexing;
pub(crate) mod normalization;
pub(crate) mod pmean;
pub mod pooling;
pub mod regularizers;
pub(crate) mod resize;
