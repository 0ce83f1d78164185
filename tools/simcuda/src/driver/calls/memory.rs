//! Memory: allocations, copies, fills, and the pool.

use super::super::error::Error;
use super::super::work::Pattern;
use super::calls;
use super::pointer::{In, Out};

/// The handle of the only pool.
const POOL: u64 = 0x80;

/// Attributes of a pool: what it keeps before it gives memory back, and what it holds.
const RELEASE_THRESHOLD: i32 = 4;
const RESERVED: i32 = 5;
const USED: i32 = 7;

fn pool(handle: u64) -> Result<(), Error> {
    if handle == POOL { Ok(()) } else { Err(Error::INVALID_VALUE) }
}

calls! { Error;
    /// Allocates.
    fn cuMemAlloc_v2(device, address: Out<u64>, len: usize) { address.set(device.allocate(len as u64)?) }

    /// Allocates in a stream's order.
    fn cuMemAllocAsync(device, address: Out<u64>, len: usize, stream: u64) {
        address.set(device.allocate_async(len as u64, stream)?)
    }

    /// Frees.
    fn cuMemFree_v2(device, address: u64) { device.free(address) }

    /// Frees in a stream's order.
    fn cuMemFreeAsync(device, address: u64, stream: u64) { device.free_async(address, stream) }

    /// Allocates pinned memory of the host.
    fn cuMemHostAlloc(device, address: Out<usize>, len: usize, _flags: u32) {
        address.set(device.allocate_pinned(len)?)
    }

    /// Frees pinned memory of the host.
    fn cuMemFreeHost(device, address: usize) { device.free_pinned(address) }

    /// Free bytes, and all.
    fn cuMemGetInfo_v2(device, free: Out<usize>, total: Out<usize>) {
        let info = device.memory_info()?;
        free.set(info.0 as usize)?;
        total.set(info.1 as usize)
    }

    /// Copies from the host.
    fn cuMemcpyHtoD_v2(device, to: u64, from: In<u8>, len: usize) { device.upload(to, from.slice(len)?) }

    /// Copies from the host in a stream.
    fn cuMemcpyHtoDAsync_v2(device, to: u64, from: In<u8>, len: usize, stream: u64) {
        device.upload_async(to, from.slice(len)?, stream)
    }

    /// Copies to the host.
    fn cuMemcpyDtoH_v2(device, to: Out<u8>, from: u64, len: usize) {
        let mut to = to;
        device.read_back(to.slice(len)?, from)
    }

    /// Copies to the host in a stream.
    fn cuMemcpyDtoHAsync_v2(device, to: Out<u8>, from: u64, len: usize, stream: u64) {
        let mut to = to;
        device.read_back_async(to.slice(len)?, from, stream)
    }

    /// Copies on the device.
    fn cuMemcpyDtoD_v2(device, to: u64, from: u64, len: usize) { device.copy(to, from, len, 0) }

    /// Copies on the device in a stream.
    fn cuMemcpyDtoDAsync_v2(device, to: u64, from: u64, len: usize, stream: u64) {
        device.copy(to, from, len, stream)
    }

    /// Copies between contexts, of which there is one.
    fn cuMemcpyPeerAsync(device, to: u64, _to_context: u64, from: u64, _from_context: u64, len: usize, stream: u64) {
        device.copy(to, from, len, stream)
    }

    /// Fills with a byte.
    fn cuMemsetD8_v2(device, to: u64, value: u8, count: usize) { device.fill(to, Pattern::Byte(value), count, 0) }

    /// Fills with a byte in a stream.
    fn cuMemsetD8Async(device, to: u64, value: u8, count: usize, stream: u64) {
        device.fill(to, Pattern::Byte(value), count, stream)
    }

    /// Fills with two bytes in a stream.
    fn cuMemsetD16Async(device, to: u64, value: u16, count: usize, stream: u64) {
        device.fill(to, Pattern::Short(value), count, stream)
    }

    /// Fills with four bytes in a stream.
    fn cuMemsetD32Async(device, to: u64, value: u32, count: usize, stream: u64) {
        device.fill(to, Pattern::Word(value), count, stream)
    }

    /// The device's pool.
    fn cuDeviceGetDefaultMemPool(device, out: Out<u64>, ordinal: i32) {
        device.device(ordinal)?;
        out.set(POOL)
    }

    /// The device's pool.
    fn cuDeviceGetMemPool(device, out: Out<u64>, ordinal: i32) {
        device.device(ordinal)?;
        out.set(POOL)
    }

    /// Sets how much the pool keeps. It keeps nothing here, so that memory that was freed is known to be.
    fn cuMemPoolSetAttribute(device, handle: u64, attribute: i32, value: In<u64>) {
        pool(handle)?;
        if attribute != RELEASE_THRESHOLD {
            eprintln!("simcuda: attribute {attribute} of a pool cannot be set");
            return Err(Error::NOT_SUPPORTED);
        }
        device.set_pool_threshold(value.get()?)
    }

    /// The pool's threshold, and its bytes in use.
    fn cuMemPoolGetAttribute(device, handle: u64, attribute: i32, value: Out<u64>) {
        pool(handle)?;
        match attribute {
            RELEASE_THRESHOLD => value.set(device.pool_threshold()),
            RESERVED | USED => {
                let (free, total) = device.memory_info()?;
                value.set(total - free)
            }
            _ => {
                eprintln!("simcuda: attribute {attribute} of a pool is not there");
                Err(Error::NOT_SUPPORTED)
            }
        }
    }

    /// Gives back what the pool keeps: nothing.
    fn cuMemPoolTrimTo(device, handle: u64, _keep: usize) {
        pool(handle)?;
        device.context()
    }
}
