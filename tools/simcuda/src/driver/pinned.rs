//! Pinned memory of the host: the driver allocates it, so copies may read and write it when they run, not when they are
//! asked for. The program holds pointers into it and uses them at the same time, as it does with a device.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ptr;

/// A page: pinned memory starts at one.
const ALIGN: usize = 4096;

/// Pinned memory, by address.
#[derive(Debug, Default)]
pub struct Pinned {
    blocks: BTreeMap<usize, usize>,
}

impl Pinned {
    /// The address of fresh memory; `None` if there is none.
    pub fn allocate(&mut self, len: usize) -> Option<usize> {
        let layout = Layout::from_size_align(len.max(1), ALIGN).ok()?;
        // SAFETY: the layout has a size that is not 0.
        let block = unsafe { alloc_zeroed(layout) };
        if block.is_null() {
            return None;
        }
        let address = block.expose_provenance();
        self.blocks.insert(address, len);
        Some(address)
    }

    /// Frees memory by its first address; false if there is none.
    pub fn free(&mut self, address: usize) -> bool {
        let Some(len) = self.blocks.remove(&address) else { return false };
        let Ok(layout) = Layout::from_size_align(len.max(1), ALIGN) else { return false };
        // SAFETY: the block was allocated with this layout, and is in the table no more, so this is its only free.
        unsafe { dealloc(ptr::with_exposed_provenance_mut(address), layout) };
        true
    }

    /// Whether these bytes are inside of pinned memory.
    #[must_use]
    pub fn contains(&self, address: usize, len: usize) -> bool {
        self.blocks
            .range(..=address)
            .next_back()
            .is_some_and(|(start, size)| (address - start).checked_add(len).is_some_and(|end| end <= *size))
    }

    /// Reads pinned memory; false if it is none.
    pub fn read(&self, address: usize, to: &mut [u8]) -> bool {
        if !self.contains(address, to.len()) {
            return false;
        }
        // SAFETY: the bytes are inside of a live block, and `to` is memory of its own. That the program does not write
        // them now is what it promises the driver by the order of its streams.
        unsafe { ptr::copy(ptr::with_exposed_provenance(address), to.as_mut_ptr(), to.len()) };
        true
    }

    /// Writes pinned memory; false if it is none.
    pub fn write(&self, address: usize, from: &[u8]) -> bool {
        if !self.contains(address, from.len()) {
            return false;
        }
        // SAFETY: as in `read`.
        unsafe { ptr::copy(from.as_ptr(), ptr::with_exposed_provenance_mut(address), from.len()) };
        true
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        while let Some((&address, _)) = self.blocks.first_key_value() {
            self.free(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_memory_is_what_was_allocated() {
        let mut pinned = Pinned::default();
        let at = pinned.allocate(10).expect("room");
        assert!(at.is_multiple_of(ALIGN) && pinned.contains(at, 10) && pinned.contains(at + 4, 6));
        assert!(!pinned.contains(at + 4, 7) && !pinned.contains(at.wrapping_sub(1), 1));
        assert!(pinned.write(at + 2, &[1, 2, 3]) && !pinned.write(at + 9, &[1, 2]));
        let mut bytes = [9; 4];
        assert!(pinned.read(at + 1, &mut bytes));
        assert_eq!(bytes, [0, 1, 2, 3]);
        assert!(!pinned.free(at + 1) && pinned.free(at) && !pinned.free(at) && !pinned.read(at, &mut bytes));
    }
}
