//! Functions without parameters.

pub mod activations;
pub(crate) mod attention;
pub(crate) mod dropout;
pub mod pooling;
pub mod regularizers;
