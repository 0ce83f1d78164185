//! The shared memory of a block.

use crate::fault::{Fault, FaultKind};
use crate::memory::POISON;

/// Shared memory, and which of its bytes were written.
#[derive(Debug)]
pub(super) struct Shared {
    bytes: Vec<u8>,
    written: Vec<bool>,
    /// Whether reads of uninitialized bytes are faults.
    checked: bool,
}

impl Shared {
    pub(super) fn new(len: usize, checked: bool) -> Self {
        Self { bytes: vec![POISON; len], written: vec![false; len], checked }
    }

    /// Of a new block.
    pub(super) fn reset(&mut self) {
        self.bytes.fill(POISON);
        self.written.fill(false);
    }

    pub(super) fn read(&self, address: u64, len: usize) -> Result<&[u8], Fault> {
        let range = self.range(address, len)?;
        if self.checked && !self.written[range.clone()].iter().all(|&written| written) {
            let message = format!("{len} bytes of shared memory at {address} that no thread has written");
            return Err(Fault::new(FaultKind::UninitializedShared, message));
        }
        Ok(&self.bytes[range])
    }

    pub(super) fn write(&mut self, address: u64, len: usize) -> Result<&mut [u8], Fault> {
        let range = self.range(address, len)?;
        self.written[range.clone()].fill(true);
        Ok(&mut self.bytes[range])
    }

    fn range(&self, address: u64, len: usize) -> Result<std::ops::Range<usize>, Fault> {
        let start = address as usize;
        if start.checked_add(len).is_some_and(|end| end <= self.bytes.len()) {
            return Ok(start..start + len);
        }
        let message = format!("{len} bytes at {address} of shared memory of {} bytes", self.bytes.len());
        Err(Fault::new(FaultKind::IllegalAddress, message))
    }
}
