//! Modules and launches.

use std::collections::HashMap;
use std::sync::Arc;

use super::device::{Answer, Device};
use super::error::Error;
use super::work::{Entry, Work};
use crate::launch::Grid;
use crate::ptx::{self, Parameter};

/// Shared memory of a block that needs no opt-in.
pub const SHARED: u32 = 48 << 10;
/// Shared memory of a block with opt-in.
pub const SHARED_OPT_IN: u32 = 227 << 10;
/// The most threads of a block.
pub const THREADS: u32 = 1024;
/// The most threads of a block along x, y and z.
pub const BLOCK: [u32; 3] = [1024, 1024, 64];
/// The most blocks of a grid along x, y and z.
pub const GRID: [u32; 3] = [i32::MAX as u32, 65535, 65535];

/// A module, and the handles of the kernels that were asked for.
#[derive(Debug)]
pub(super) struct LoadedModule {
    module: ptx::Module,
    functions: HashMap<String, u64>,
}

/// A kernel that can be launched.
#[derive(Clone, Debug)]
pub(super) struct Function {
    kernel: Arc<dyn Entry>,
    /// The most bytes of dynamic shared memory, if the program set it.
    dynamic_shared: Option<u32>,
}

impl Function {
    /// The most bytes of dynamic shared memory.
    fn dynamic_limit(&self) -> u32 {
        self.dynamic_shared.unwrap_or_else(|| SHARED.saturating_sub(self.kernel.static_shared()))
    }
}

impl Device {
    /// `cuModuleLoadData` of a text. Images of other kinds are refused.
    pub fn load_module(&mut self, image: &[u8]) -> Answer<u64> {
        self.context()?;
        self.unsafe_call()?;
        let text = match std::str::from_utf8(image) {
            Ok(text) if !text.starts_with("\x7fELF") => text,
            _ => {
                eprintln!("simcuda: a module that is not PTX");
                return Err(Error::INVALID_IMAGE);
            }
        };
        let module = ptx::Module::load(text, &mut self.machine.memory).map_err(|error| {
            eprintln!("simcuda: a module could not be read: {}", error.0);
            Error::INVALID_PTX
        })?;
        let handle = self.new_handle();
        self.modules.insert(handle, LoadedModule { module, functions: HashMap::new() });
        Ok(handle)
    }

    /// `cuModuleUnload`: its kernels cannot be launched any more. Those that wait in streams are still run.
    pub fn unload_module(&mut self, handle: u64) -> Answer {
        self.context()?;
        self.unsafe_call()?;
        let module = self.modules.remove(&handle).ok_or(Error::INVALID_HANDLE)?;
        for function in module.functions.values() {
            self.functions.remove(function);
        }
        Ok(())
    }

    /// `cuModuleGetFunction`.
    pub fn function(&mut self, module: u64, name: &str) -> Answer<u64> {
        self.context()?;
        let loaded = self.modules.get(&module).ok_or(Error::INVALID_HANDLE)?;
        if let Some(handle) = loaded.functions.get(name) {
            return Ok(*handle);
        }
        let kernel = loaded.module.kernel(name).ok_or(Error::NOT_FOUND)?;
        let handle = self.add_function(kernel);
        if let Some(loaded) = self.modules.get_mut(&module) {
            loaded.functions.insert(name.to_owned(), handle);
        }
        Ok(handle)
    }

    /// A handle for a kernel.
    pub(super) fn add_function(&mut self, kernel: Arc<dyn Entry>) -> u64 {
        let handle = self.new_handle();
        self.functions.insert(handle, Function { kernel, dynamic_shared: None });
        handle
    }

    /// The handle of a kernel.
    pub(super) fn function_of(&mut self, kernel: &Arc<dyn Entry>) -> u64 {
        let known = self.functions.iter().find(|(_, function)| Arc::ptr_eq(&function.kernel, kernel));
        match known {
            Some((handle, _)) => *handle,
            None => self.add_function(Arc::clone(kernel)),
        }
    }

    /// `cuModuleGetGlobal`: address and length.
    pub fn variable(&mut self, module: u64, name: &str) -> Answer<(u64, u64)> {
        self.context()?;
        self.modules.get(&module).ok_or(Error::INVALID_HANDLE)?.module.variable(name).ok_or(Error::NOT_FOUND)
    }

    /// The kernel of a handle.
    pub fn kernel(&mut self, function: u64) -> Answer<Arc<dyn Entry>> {
        self.context()?;
        self.functions.get(&function).map(|f| Arc::clone(&f.kernel)).ok_or(Error::INVALID_HANDLE)
    }

    /// `cuFuncGetParamInfo`: a parameter of a kernel, by its number.
    pub fn parameter(&mut self, function: u64, number: usize) -> Answer<Parameter> {
        self.context()?;
        let kernel = self.functions.get(&function).map(|f| &f.kernel);
        kernel.and_then(|kernel| kernel.parameters().get(number).copied()).ok_or(Error::INVALID_VALUE)
    }

    /// `cuFuncGetAttribute`, of those that PTX tells. Registers and local memory are the compiler's.
    pub fn function_attribute(&mut self, function: u64, attribute: i32) -> Answer<i32> {
        self.context()?;
        let function = self.functions.get(&function).ok_or(Error::INVALID_HANDLE)?;
        let value = match attribute {
            0 => function.kernel.max_threads().min(THREADS),
            1 => function.kernel.static_shared(),
            5 | 6 => 90,
            8 => function.dynamic_limit(),
            _ => {
                eprintln!("simcuda: attribute {attribute} of a function is not there");
                return Err(Error::NOT_SUPPORTED);
            }
        };
        i32::try_from(value).map_err(|_| Error::INVALID_VALUE)
    }

    /// `cuFuncSetAttribute`.
    pub fn set_function_attribute(&mut self, function: u64, attribute: i32, value: i32) -> Answer {
        self.context()?;
        let function = self.functions.get_mut(&function).ok_or(Error::INVALID_HANDLE)?;
        match attribute {
            8 => {
                let value = u32::try_from(value).map_err(|_| Error::INVALID_VALUE)?;
                let total = function.kernel.static_shared().checked_add(value);
                if total.is_none_or(|total| total > SHARED_OPT_IN) {
                    return Err(Error::INVALID_VALUE);
                }
                function.dynamic_shared = Some(value);
                Ok(())
            }
            // How much of the cache is shared memory: a hint.
            9 => Ok(()),
            0..=7 => Err(Error::INVALID_VALUE), // may only be read
            _ => {
                eprintln!("simcuda: attribute {attribute} of a function is not there");
                Err(Error::NOT_SUPPORTED)
            }
        }
    }

    /// `cuLaunchKernel`. The parameters are copied, as the driver does.
    pub fn launch(&mut self, function: u64, grid: Grid, parameters: &[u8], stream: u64) -> Answer {
        let stream = self.stream(stream)?;
        let found = self.functions.get(&function).ok_or(Error::INVALID_HANDLE)?;
        let kernel = Arc::clone(&found.kernel);
        let outside = |sizes: &[u32; 3], limits: [u32; 3]| {
            sizes.iter().zip(limits).any(|(size, limit)| *size == 0 || *size > limit)
        };
        let threads: u64 = grid.threads.iter().map(|n| u64::from(*n)).product();
        let too_many = threads > u64::from(kernel.max_threads().min(THREADS));
        let others = kernel.required_threads().is_some_and(|required| required != grid.threads);
        let wrong = if outside(&grid.blocks, GRID) {
            Some("blocks")
        } else if outside(&grid.threads, BLOCK) || too_many || others {
            Some("threads")
        } else if grid.dynamic_shared > found.dynamic_limit() {
            Some("dynamic shared memory")
        } else {
            None
        };
        if let Some(what) = wrong {
            eprintln!(
                "simcuda: the {what} of a launch of {} are outside of the limits: {grid:?}",
                kernel.name()
            );
            return Err(Error::INVALID_VALUE);
        }
        if self.settings.trace {
            eprintln!("simcuda: launch of {}: {grid:?}", kernel.name());
        }
        self.submit(stream, Work::Launch { function, kernel, grid, parameters: parameters.into() })
    }
}
