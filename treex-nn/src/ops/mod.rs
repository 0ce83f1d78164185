//! The operations of the layers. Each has a plain composition of Candle operations with the right gradient;
//! where it also has a kernel, [`treex_core::autograd::with_reference`] chooses between them.

pub(crate) mod add;
pub(crate) mod attention;

pub(crate) mod convolution;
pub(crate) mod correlate;
pub(crate) mod derivative;
pub(crate) mod dropout;
pub(crate) mod einsum;
pub(crate) mod elementwise;
pub(crate) mod embed;
pub(crate) mod geometry;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod normal;

pub(crate) mod padded;
pub(crate) mod patches;
pub(crate) mod recurrent;
pub(crate) mod rows;
pub(crate) mod softmax;

pub(crate) mod vdot;
pub(crate) mod windows;

#[cfg(test)]
mod tests;
