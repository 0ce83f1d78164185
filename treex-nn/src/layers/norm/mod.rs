//! Normalization layers, and what they share.

mod batch_norm;
mod extent;
mod features;
mod group_norm;
mod instance_norm;
mod layer_norm;
mod options;
mod reparametrized;
mod rms_norm;
mod spectral_norm;
mod weight_norm;

pub use batch_norm::BatchNorm;
pub use group_norm::GroupNorm;
pub use instance_norm::InstanceNorm;
pub use layer_norm::LayerNorm;
pub use rms_norm::RmsNorm;
pub use spectral_norm::SpectralNorm;
pub use weight_norm::WeightNorm;
