//! Initialization, devices, contexts and errors.

use std::ffi::c_char;

use super::super::attribute::NAME;
use super::super::error::Error;
use super::calls;
use super::pointer::Out;

calls! { Error;
    /// Initializes the driver.
    fn cuInit(device, flags: u32) { device.initialize(flags) }

    /// The version of CUDA that the driver has.
    fn cuDriverGetVersion(device, version: Out<i32>) { version.set(device.settings().driver_version) }

    /// A device by its ordinal.
    fn cuDeviceGet(device, out: Out<i32>, ordinal: i32) {
        device.device(ordinal)?;
        out.set(ordinal)
    }

    /// How many devices there are.
    fn cuDeviceGetCount(device, count: Out<i32>) {
        device.initialized()?;
        count.set(1)
    }

    /// A device's name, cut to the room there is.
    fn cuDeviceGetName(device, name: Out<u8>, len: i32, ordinal: i32) {
        device.device(ordinal)?;
        let mut name = name;
        let room = name.slice(usize::try_from(len).map_err(|_| Error::INVALID_VALUE)?)?;
        let text = NAME.to_bytes();
        let used = text.len().min(room.len().checked_sub(1).ok_or(Error::INVALID_VALUE)?);
        room[..used].copy_from_slice(&text[..used]);
        room[used] = 0;
        Ok(())
    }

    /// A device's number in the world.
    fn cuDeviceGetUuid_v2(device, uuid: Out<[u8; 16]>, ordinal: i32) {
        device.device(ordinal)?;
        uuid.set(*b"simulated device")
    }

    /// A device's bytes of memory.
    fn cuDeviceTotalMem_v2(device, bytes: Out<usize>, ordinal: i32) {
        device.device(ordinal)?;
        bytes.set(device.settings().memory as usize)
    }

    /// A device's attribute.
    fn cuDeviceGetAttribute(device, value: Out<i32>, attribute: i32, ordinal: i32) {
        value.set(device.attribute(attribute, ordinal)?)
    }

    /// Takes part in the device's primary context.
    fn cuDevicePrimaryCtxRetain(device, context: Out<u64>, ordinal: i32) { context.set(device.retain(ordinal)?) }

    /// Leaves the device's primary context.
    fn cuDevicePrimaryCtxRelease_v2(device, ordinal: i32) { device.release(ordinal) }

    /// Makes a context the thread's current one.
    fn cuCtxSetCurrent(device, context: u64) { device.set_current(context) }

    /// The thread's current context.
    fn cuCtxGetCurrent(device, context: Out<u64>) { context.set(device.current()?) }

    /// Waits for all streams.
    fn cuCtxSynchronize(device) { device.synchronize() }

    /// Flags say how the host waits: here they say nothing.
    fn cuCtxSetFlags(device, _flags: u32) { device.context() }

    /// A hint.
    fn cuCtxSetCacheConfig(device, _config: i32) { device.context() }

    /// The priorities of streams, from the least to the greatest. They order nothing.
    fn cuCtxGetStreamPriorityRange(device, least: Out<i32>, greatest: Out<i32>) {
        device.context()?;
        least.set(0)?;
        greatest.set(-5)
    }

    /// Tables of functions that are not in the manual: there are none. NVRTC asks for one, and goes on without it.
    fn cuGetExportTable(_device, table: Out<u64>, _id: u64) {
        table.set(0)?;
        Err(Error::NOT_FOUND)
    }

    /// The name of an error.
    fn cuGetErrorName(_device, code: i32, name: Out<*const c_char>) {
        name.set(Error::name_of(code).ok_or(Error::INVALID_VALUE)?.as_ptr())
    }

    /// An error in words.
    fn cuGetErrorString(_device, code: i32, words: Out<*const c_char>) {
        words.set(Error::words_of(code).ok_or(Error::INVALID_VALUE)?.as_ptr())
    }

    /// A profiler begins: there is none.
    fn cuProfilerStart(device) { device.context() }

    /// A profiler ends.
    fn cuProfilerStop(device) { device.context() }
}
