//! Kernels in the dialect, compiled by NVRTC when they are first used, and kept for the life of the process.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::CudaDevice;
use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::driver::CudaFunction;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute;
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use treex_kernels::dialect;

use crate::error::{Error, ErrorKind, Result};

/// The kernel `name` of `text`, in the dialect without its header.
///
/// Products and sums are rounded one by one (`--fmad=false`), as they are on the CPU, so that both give the same bits; powers,
/// exponentials, logarithms and `tanh` are CUDA's own.
///
/// # Errors
/// If the compiler or the driver refuses it.
pub(super) fn kernel(device: &CudaDevice, name: &str, text: &str) -> Result<CudaFunction> {
    type Known = Mutex<HashMap<DeviceId, HashMap<String, CudaFunction>>>;
    static KNOWN: LazyLock<Known> = LazyLock::new(Known::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.entry(device.id()).or_default();
    if let Some(function) = known.get(text) {
        return Ok(function.clone());
    }
    let refused = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Candle, format!("the kernel `{name}` cannot be compiled: {error}"))
            .remedy("report it: kernels are part of treex; `Device::Cpu` needs none")
    };
    let options = CompileOptions {
        fmad: Some(false),
        options: vec![format!("--gpu-architecture=compute_{}", compute_capability(device)?)],
        name: Some(format!("{name}.cu")),
        ..CompileOptions::default()
    };
    let ptx = compile_ptx_with_opts(format!("{}{text}", dialect::CUDA), options)
        .map_err(|error| refused(&format!("{error:?}")))?;
    let module = device.cuda_stream().context().load_module(ptx).map_err(|error| refused(&error))?;
    let function = module.load_function(name).map_err(|error| refused(&error))?;
    known.insert(text.to_owned(), function.clone());
    Ok(function)
}

/// The device's compute capability, as the compiler writes it: 90 for 9.0.
pub(super) fn compute_capability(device: &CudaDevice) -> Result<i32> {
    let attribute = |attribute| {
        let value = device.cuda_stream().context().attribute(attribute);
        value.map_err(|error| Error::from(candle_core::Error::wrap(error)))
    };
    let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(10 * major + minor)
}
