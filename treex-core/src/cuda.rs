//! CUDA: loading kernels ahead of the first step.

use crate::error::Result;
use candle_core::Device;

/// Loads the kernels of Candle that treex-nn's layers use. The driver compiles a module at its first use, which
/// takes seconds on a machine without a cached copy; call this to keep that out of the first step.
///
/// # Errors
/// If `device` is not a CUDA device, or the driver cannot load a module.
pub fn warm_up(device: &Device) -> Result<()> {
    let device = device.as_cuda_device()?;
    for (function, module) in [
        ("affine_f32", &candle_kernels::AFFINE),
        ("badd_f32", &candle_kernels::BINARY),
        ("cast_f32_f16", &candle_kernels::CAST),
        ("fill_f32", &candle_kernels::FILL),
        ("is_u32_f32", &candle_kernels::INDEXING),
        ("fast_sum_f32", &candle_kernels::REDUCE),
        ("where_u8_f32", &candle_kernels::TERNARY),
        ("uexp_f32", &candle_kernels::UNARY),
    ] {
        device.get_or_load_func(function, module)?;
    }
    Ok(())
}
