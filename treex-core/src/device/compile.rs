//! Kernels in the dialect, compiled by NVRTC when they are first used, and kept for the life of the process,
//! or on disk where the program asks for it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::driver::sys::{self, CUdevice_attribute};
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts};
use candle_core::{CudaDevice, DType};
use treex_kernels::dialect;
use treex_kernels::expression::Source;

use super::disk;
use super::kernel::{Function, Kernel};
use super::{EACH, GROUP_SIZE};
use crate::error::{Error, ErrorKind, Result};

/// The kernel `name` of `text`, in the dialect without its header.
///
/// Products and sums are rounded one by one (`--fmad=false`), as they are on the CPU, so that both give the same bits; powers,
/// exponentials, logarithms and `tanh` are CUDA's own.
///
/// # Errors
/// If the compiler or the driver refuses it.
pub(super) fn kernel(device: &CudaDevice, name: &str, text: &str) -> Result<CudaFunction> {
    type Known = Mutex<HashMap<DeviceId, HashMap<String, Arc<CudaModule>>>>;
    static KNOWN: LazyLock<Known> = LazyLock::new(Known::default);
    let refused = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Candle, format!("the kernel `{name}` cannot be compiled: {error}"))
            .remedy("report it: kernels are part of treex; `Device::Cpu` needs none")
    };
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.entry(device.id()).or_default();
    if let Some(module) = known.get(text) {
        return module.load_function(name).map_err(|error| refused(&error));
    }
    let options = CompileOptions {
        fmad: Some(false),
        options: vec![format!("--gpu-architecture=compute_{}", compute_capability(device)?)],
        name: Some(format!("{name}.cu")),
        ..CompileOptions::default()
    };
    let source = format!("{}{text}", dialect::CUDA);
    // What else the compiled text depends on.
    let all = format!("// CUDA {}, {:?}\n{source}", sys::CUDA_VERSION, options.options);
    let file = disk::file_of(name, &all);
    let ptx = match file.as_ref().and_then(|file| disk::read(file, &all)) {
        Some(compiled) => Ptx::from_src(compiled),
        None => compile_ptx_with_opts(source, options).map_err(|error| refused(&format!("{error:?}")))?,
    };
    if let Some(file) = file {
        disk::write(&file, &all, &ptx.to_src());
    }
    let module = device.cuda_stream().context().load_module(ptx).map_err(|error| refused(&error))?;
    let function = module.load_function(name).map_err(|error| refused(&error))?;
    known.insert(text.to_owned(), module);
    Ok(function)
}

/// A kernel for elements of this type, with these names defined and this function in it; the same text is put together and looked up only once.
///
/// # Errors
/// As [`kernel`].
pub(super) fn of_element(
    device: &CudaDevice,
    kernel: &Kernel,
    element: DType,
    defines: &[(&'static str, usize)],
    function: Option<Function<'_>>,
) -> Result<CudaFunction> {
    type Key = (DeviceId, &'static str, DType, Vec<usize>, Option<(&'static str, u64)>);
    static KNOWN: LazyLock<Mutex<HashMap<Key, CudaFunction>>> = LazyLock::new(Mutex::default);
    let values = defines.iter().map(|(_, value)| *value).collect();
    let name = function.as_ref().map(|function| (function.name, function.option));
    let key = (device.id(), kernel.name, element, values, name);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(function) = known.get(&key) {
        return Ok(function.clone());
    }
    let is_wide = u8::from(element == DType::F64);
    let element = element.as_str().to_uppercase();
    let mut text = format!(
        "#define GROUP_SIZE {GROUP_SIZE}\n#define EACH_THREAD {EACH}\n#define ELEMENT {element}\n#define IS_WIDE {is_wide}\n"
    );
    for (name, value) in defines {
        text += &format!("#define {name} {value}\n");
    }
    text.extend(kernel.texts.iter().copied());
    if let Some(function) = function {
        let Source { statements, values, constants } = Source::of(&(function.traced)());
        let mut named = String::new();
        for (number, constant) in constants.iter().enumerate() {
            named += &format!("const real c{number} = (real)bits_to_double({:#x}ul);\n", constant.to_bits());
        }
        text = text
            .replace("CONSTANTS", &named)
            .replace("STATEMENTS", &statements)
            .replace("RESULTS", &values.join(", "));
    }
    let function = self::kernel(device, kernel.name, &text)?;
    known.insert(key, function.clone());
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
