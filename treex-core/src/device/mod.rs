//! Devices: one that is set up for training, and kernels of treex's own, compiled when they are first used.
//!
//! A file for each operation launches its kernels, whose texts are beside the CPU's in `treex-kernels`. Not public API: what
//! treex's other crates need, and any release may change it.

pub mod add;
pub mod attention;
mod columns;
#[cfg(feature = "cuda")]
mod compile;
pub mod cross_entropy;
#[cfg(feature = "cuda")]
pub mod cuda;
pub(crate) mod decide;
#[cfg(feature = "cuda")]
mod disk;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod im2col;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "launches on devices use it"))]
mod kernel;
#[cfg(feature = "cuda")]
mod launch;
pub mod norm;
pub mod pooling;
pub mod random;
pub mod recurrent;
mod rows;
mod run;
pub mod softmax;
pub mod sum_axis0;
pub mod sweep;
mod window;
#[cfg(not(feature = "cuda"))]
mod without_cuda;

#[cfg(feature = "cuda")]
pub use cuda::cuda_device;
#[cfg(feature = "cuda")]
pub(crate) use cuda::enter_device;
#[cfg(feature = "cuda")]
pub(crate) use launch::address;
#[cfg(not(feature = "cuda"))]
pub use without_cuda::cuda_device;
#[cfg(not(feature = "cuda"))]
pub(crate) use without_cuda::enter_device;

use candle_core::{DType, Device, Tensor};

/// Whether operations have kernels for such a tensor: for floats on the CPU, and on CUDA unless there is no element.
#[must_use]
pub fn has_kernels(x: &Tensor) -> bool {
    let is_float = matches!(x.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16);
    is_float && (x.device().is_cpu() || supports(x.device(), x.dtype()) && x.elem_count() > 0)
}

/// Whether there are kernels for tensors of this type on this device, beside those of the CPU.
#[must_use]
pub fn supports(device: &Device, dtype: DType) -> bool {
    cfg!(feature = "cuda")
        && device.is_cuda()
        && matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
}

/// A number rounded to the element type, as kernels of the CPU take it.
#[must_use]
pub fn rounded(number: f32, dtype: DType) -> f32 {
    match dtype {
        DType::F16 => half::f16::from_f32(number).to_f32(),
        DType::BF16 => half::bf16::from_f32(number).to_f32(),
        _ => number,
    }
}

/// Threads of a group, in a launch of a kernel.
const GROUP_SIZE: usize = 256;

/// Elements of a thread, in a launch over all elements.
const EACH: usize = 4;

/// The groups for so many elements.
fn groups(len: usize) -> usize {
    len.div_ceil(GROUP_SIZE * EACH)
}
