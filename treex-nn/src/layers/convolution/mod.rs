//! Convolutions: with shared weights, with weights for each position, and transposed.

mod conv;
mod conv_local;
mod conv_transpose;
mod window;

pub use conv::Conv;
pub use conv_local::ConvLocal;
pub use conv_transpose::ConvTranspose;
