//! Modules, functions and launches.

use std::ffi::c_char;

use super::super::error::Error;
use super::calls;
use super::pointer::{In, Out};
use crate::launch::Grid;

calls! { Error;
    /// Reads a module from memory.
    fn cuModuleLoadData(device, module: Out<u64>, image: In<c_char>) {
        module.set(device.load_module(image.bytes()?)?)
    }

    /// Reads a module from a file.
    fn cuModuleLoad(device, module: Out<u64>, path: In<c_char>) {
        let image = std::fs::read(path.text()?).map_err(|_| Error::FILE_NOT_FOUND)?;
        module.set(device.load_module(&image)?)
    }

    /// Unloads a module.
    fn cuModuleUnload(device, module: u64) { device.unload_module(module) }

    /// A kernel of a module.
    fn cuModuleGetFunction(device, function: Out<u64>, module: u64, name: In<c_char>) {
        function.set(device.function(module, name.text()?)?)
    }

    /// A variable of a module.
    fn cuModuleGetGlobal_v2(device, address: Out<u64>, len: Out<usize>, module: u64, name: In<c_char>) {
        let (at, size) = device.variable(module, name.text()?)?;
        address.set(at)?;
        len.set(size as usize)
    }

    /// An attribute of a kernel.
    fn cuFuncGetAttribute(device, value: Out<i32>, attribute: i32, function: u64) {
        value.set(device.function_attribute(function, attribute)?)
    }

    /// Sets an attribute of a kernel.
    fn cuFuncSetAttribute(device, function: u64, attribute: i32, value: i32) {
        device.set_function_attribute(function, attribute, value)
    }

    /// A hint.
    fn cuFuncSetCacheConfig(device, function: u64, _config: i32) { device.kernel(function).map(|_| ()) }

    /// Launches a kernel. Its parameters come one by one; a buffer of all of them is not taken.
    fn cuLaunchKernel(
        device,
        function: u64,
        blocks_x: u32,
        blocks_y: u32,
        blocks_z: u32,
        threads_x: u32,
        threads_y: u32,
        threads_z: u32,
        dynamic_shared: u32,
        stream: u64,
        parameters: In<In<u8>>,
        extra: In<u64>,
    ) {
        let kernel = device.kernel(function)?;
        if !extra.is_null() {
            eprintln!("simcuda: parameters of {} in one buffer are not taken", kernel.name());
            return Err(Error::NOT_SUPPORTED);
        }
        let layout = kernel.parameters();
        let mut bytes = vec![0; layout.iter().map(|p| p.offset + p.len).max().unwrap_or(0)];
        for (parameter, value) in layout.iter().zip(parameters.slice(layout.len())?) {
            bytes[parameter.offset..][..parameter.len].copy_from_slice(value.slice(parameter.len)?);
        }
        let grid = Grid {
            blocks: [blocks_x, blocks_y, blocks_z],
            threads: [threads_x, threads_y, threads_z],
            dynamic_shared,
        };
        device.launch(function, grid, &bytes, stream)
    }
}
