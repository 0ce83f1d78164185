//! Devices: one that is set up for training, and kernels of treex's own, compiled when they are first used.

#[cfg(feature = "cuda")]
mod compile;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod sweep;
#[cfg(not(feature = "cuda"))]
mod without_cuda;

#[cfg(feature = "cuda")]
pub use cuda::cuda_device;
#[cfg(feature = "cuda")]
pub(crate) use cuda::enter_device;
#[cfg(not(feature = "cuda"))]
pub use without_cuda::cuda_device;
#[cfg(not(feature = "cuda"))]
pub(crate) use without_cuda::enter_device;
