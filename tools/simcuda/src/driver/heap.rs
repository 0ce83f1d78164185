//! Allocations and frees, as the program sees them. Memory is there from the call that allocates it, and gone when the
//! free runs.

use super::device::{Answer, Device};
use super::error::Error;
use super::work::Work;

/// Where memory came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocation {
    /// `cuMemAlloc`: its free waits for the device.
    Plain,
    /// `cuMemAllocAsync`, or a graph that was launched: the free does not wait.
    Ordered,
}

impl Device {
    /// Memory, after all pending frees if it must be.
    fn take_memory(&mut self, len: u64, kind: Allocation) -> Answer<u64> {
        let address = match self.machine.memory.allocate(len) {
            Some(address) => address,
            None => {
                self.finish()?;
                self.machine.memory.allocate(len).ok_or(Error::OUT_OF_MEMORY)?
            }
        };
        self.allocations.insert(address, kind);
        self.machine.report.counts.allocations += 1;
        self.machine.report.counts.allocated_bytes += len;
        Ok(address)
    }

    /// `cuMemAlloc`.
    pub fn allocate(&mut self, len: u64) -> Answer<u64> {
        self.context()?;
        if len == 0 {
            return Err(Error::INVALID_VALUE);
        }
        self.unsafe_call()?;
        self.take_memory(len, Allocation::Plain)
    }

    /// `cuMemAllocAsync`. Of 0 bytes it is an address that nothing may use: what a driver answers is not documented.
    pub fn allocate_async(&mut self, len: u64, stream: u64) -> Answer<u64> {
        let stream = self.stream(stream)?;
        if self.is_capturing(stream) {
            return self.capture_allocation(stream, len);
        }
        self.allow_legacy(stream)?;
        self.take_memory(len, Allocation::Ordered)
    }

    /// `cuMemFree`. What `cuMemAllocAsync` gave goes at once: the program must have waited.
    pub fn free(&mut self, address: u64) -> Answer {
        self.context()?;
        self.unsafe_call()?;
        let kind = self.allocations.remove(&address).ok_or(Error::INVALID_VALUE)?;
        if kind == Allocation::Plain {
            self.finish()?;
        }
        self.machine.report.counts.frees += 1;
        self.machine.memory.free(address);
        Ok(())
    }

    /// `cuMemFreeAsync`.
    pub fn free_async(&mut self, address: u64, stream: u64) -> Answer {
        let stream = self.stream(stream)?;
        if self.is_capturing(stream) {
            return self.capture_free(stream, address);
        }
        self.allow_legacy(stream)?;
        self.allocations.remove(&address).ok_or(Error::INVALID_VALUE)?;
        self.submit(stream, Work::Free { address })
    }

    /// `cuMemHostAlloc`.
    pub fn allocate_pinned(&mut self, len: usize) -> Answer<usize> {
        self.context()?;
        if len == 0 {
            return Err(Error::INVALID_VALUE);
        }
        self.unsafe_call()?;
        self.machine.pinned.allocate(len).ok_or(Error::OUT_OF_MEMORY)
    }

    /// `cuMemFreeHost`, which waits for the device, so that no work is left that uses the memory.
    pub fn free_pinned(&mut self, address: usize) -> Answer {
        self.context()?;
        self.unsafe_call()?;
        self.finish()?;
        if self.machine.pinned.free(address) { Ok(()) } else { Err(Error::INVALID_VALUE) }
    }

    /// `cuMemGetInfo`: free bytes, and all.
    pub fn memory_info(&mut self) -> Answer<(u64, u64)> {
        self.context()?;
        let memory = &self.machine.memory;
        Ok((memory.capacity() - memory.used(), memory.capacity()))
    }

    /// How much the pool would keep.
    #[must_use]
    pub fn pool_threshold(&self) -> u64 {
        self.pool_threshold
    }

    /// Sets how much the pool would keep.
    pub fn set_pool_threshold(&mut self, bytes: u64) -> Answer {
        self.context()?;
        self.pool_threshold = bytes;
        Ok(())
    }

    /// Refuses a range that is not inside of an allocation, as the driver does when a copy or a fill is asked for. What
    /// graphs own may be there only when the work runs.
    pub(super) fn check_range(&self, address: u64, len: usize) -> Answer {
        let owned = self.graph_memory.range(..=address).next_back();
        if owned
            .is_some_and(|(start, size)| address - start <= *size && len as u64 <= size - (address - start))
        {
            return Ok(());
        }
        self.machine.memory.get(address, len).map(|_| ()).map_err(|fault| {
            eprintln!("simcuda: {fault}");
            Error::INVALID_VALUE
        })
    }
}
