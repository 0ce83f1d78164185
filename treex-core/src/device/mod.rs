//! Devices: one that is set up for training, and kernels of treex's own, compiled when they are first used.

#[cfg(feature = "cuda")]
mod compile;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(feature = "cuda")]
mod launch;
pub mod random;
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

/// Threads of a group, in a launch of a kernel.
#[cfg(any(feature = "cuda", test))]
const GROUP_SIZE: usize = 256;

/// Elements of a thread, which it loads before it writes one.
#[cfg(any(feature = "cuda", test))]
const EACH: usize = 4;

/// The groups for so many elements.
#[cfg(any(feature = "cuda", test))]
fn groups(len: usize) -> usize {
    len.div_ceil(GROUP_SIZE * EACH)
}
