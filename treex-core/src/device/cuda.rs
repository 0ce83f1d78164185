//! CUDA devices: one that is set up for training, and kernels that are loaded ahead of the first step.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{DriverError, result, sys};
use candle_core::cuda_backend::{gemm_reduced_precision_f32, set_gemm_reduced_precision_f32};
use candle_core::{CudaDevice, Device};

pub use super::disk::keep_kernels_in;
use crate::error::{Error, ErrorKind, Result};

/// The CUDA device of this number, set up for training; the same one at each call. Other than with Candle's
/// `Device::new_cuda`:
///
/// - all threads share one stream, which orders their work. `new_cuda` gives each thread a stream of its own, and nothing
///   orders these;
/// - freed memory stays in the driver's pool for the next step;
/// - tensors carry no events, of which Candle makes two for each allocation: with one stream, nothing waits for them. A
///   program that makes streams of its own through cudarc orders them itself;
/// - the thread that calls it has the device's context, without which it cannot load a kernel; and what Candle uploads there
///   in pieces of at most 4096 bytes (shapes and strides) stays on the device and is uploaded once. Each thread that trains
///   calls it.
///
/// # Errors
/// If there is no such device, or its driver is older than the CUDA that the program was built with ([`ErrorKind::Candle`]).
/// Without the driver's library the system ends the program before `main`: a program that runs with and without a GPU is
/// built twice.
pub fn cuda_device(ordinal: usize) -> Result<Device> {
    static DEVICES: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let device = if let Some(device) = devices.get(&ordinal) {
        device.clone()
    } else {
        check_driver().map_err(|why| unusable(ordinal, &why))?;
        let device =
            Device::new_cuda_with_stream(ordinal).map_err(|error| unusable(ordinal, &error.to_string()))?;
        set_up(device.as_cuda_device()?).map_err(|error| unusable(ordinal, &error.to_string()))?;
        devices.insert(ordinal, device.clone());
        device
    };
    let cuda = device.as_cuda_device()?;
    cuda.cuda_stream().context().bind_to_thread().map_err(|error| unusable(ordinal, &error.to_string()))?;
    keep_uploads(cuda);
    Ok(device)
}

/// Lets the calling thread use `device`: a thread needs the context of a CUDA device to load a kernel.
pub(crate) fn enter_device(device: &Device) -> Result<()> {
    if let Device::Cuda(cuda) = device {
        let bound = cuda.cuda_stream().context().bind_to_thread();
        bound.map_err(|error| {
            Error::new(ErrorKind::Candle, "a thread cannot use a CUDA device")
                .remedy("look at the device with `nvidia-smi`; after an error of the driver, start the program again")
                .caused_by(error)
        })?;
    }
    Ok(())
}

fn unusable(ordinal: usize, why: &str) -> Error {
    let why = why.lines().next().unwrap_or_default();
    Error::new(ErrorKind::Candle, format!("CUDA device {ordinal} cannot be used: {why}"))
        .expected("a device, and a driver of at least the CUDA version that this program was built with")
        .remedy("`nvidia-smi` lists the devices and the driver's version; `Device::Cpu` needs neither")
}

/// A driver refuses kernels that were built with a later CUDA than its own, and may lack functions.
#[expect(unsafe_code, reason = "a call of the driver")]
fn check_driver() -> std::result::Result<(), String> {
    let mut version = 0;
    // SAFETY: the pointer is to a place for the number that the call writes.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(|error| error.to_string())?;
    if version >= sys::CUDA_VERSION.cast_signed() {
        return Ok(());
    }
    let name = |version: i32| format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
    Err(format!(
        "the driver is of {}, this program was built with {}",
        name(version),
        name(sys::CUDA_VERSION.cast_signed())
    ))
}

#[expect(unsafe_code, reason = "calls of the driver")]
fn set_up(device: &CudaDevice) -> std::result::Result<(), DriverError> {
    let stream = device.cuda_stream();
    let mut threshold = u64::MAX;
    let threshold: *mut u64 = &raw mut threshold;
    // SAFETY: the device is that of a live context, the pool is the device's own, and the value of this attribute is a
    // `cuuint64_t`, which the call reads.
    unsafe {
        let pool = result::device::get_default_mem_pool(stream.context().cu_device())?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, threshold.cast()).result()?;
    }
    // SAFETY: all of Candle's work on this device is in one stream, in the order in which it is given.
    unsafe { device.disable_event_tracking() };
    Ok(())
}

/// Candle keeps small uploads on a thread as long as a guard lives there: here as long as the thread.
fn keep_uploads(device: &CudaDevice) {
    thread_local! {
        static IS_KEPT: Cell<bool> = const { Cell::new(false) };
    }
    if !IS_KEPT.replace(true) {
        std::mem::forget(device.enable_cuda_graph_htod_cache());
    }
}

/// How `f32` matrices are multiplied on CUDA devices: `jax_default_matmul_precision`, by JAX's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// JAX's `"float32"`, or `"highest"`: all 24 bits of the factors. The default.
    #[default]
    Float32,
    /// JAX's `"tensorfloat32"`, or `"high"`: factors are rounded to 11 bits, for tensor cores, and products are summed in `f32`. From
    /// compute capability 8.0 on; older devices multiply as in [`Float32`](Self::Float32).
    TensorFloat32,
}

/// Sets how `f32` matrices are multiplied, by all threads of the process and on all CUDA devices, from now on. Half types are always
/// multiplied as they are, and summed in `f32`.
pub fn set_matmul_precision(precision: MatmulPrecision) {
    set_gemm_reduced_precision_f32(precision == MatmulPrecision::TensorFloat32);
}

/// How `f32` matrices are multiplied.
#[must_use]
pub fn matmul_precision() -> MatmulPrecision {
    if gemm_reduced_precision_f32() { MatmulPrecision::TensorFloat32 } else { MatmulPrecision::Float32 }
}

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
