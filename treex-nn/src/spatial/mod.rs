//! Options of operations over spatial dimensions: sizes, strides, padding.

pub(crate) mod padding;
pub(crate) mod sizes;

pub use padding::Padding;
pub use sizes::Sizes;
