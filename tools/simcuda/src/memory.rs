//! Global memory: each allocation in a window of addresses of its own, so that a stray access is always seen.
//!
//! An address is `1 << 62 | allocation << 36 | offset`. The processor of the host refuses such addresses, no allocation
//! has neighbours, and none gets the address of one that was freed.

use std::ops::Range;

use crate::fault::{Fault, FaultKind};

const BASE: u64 = 1 << 62;
const WINDOW_BITS: u32 = 36;

/// What fresh and freed memory is filled with: NaN in every float type, and an index out of any range.
pub const POISON: u8 = 0xff;

/// The memory of a device.
#[derive(Debug)]
pub struct Memory {
    /// By number; `None` after `free`.
    allocations: Vec<Option<Box<[u8]>>>,
    capacity: u64,
    used: u64,
    live: u64,
}

impl Memory {
    /// Memory of this many bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { allocations: Vec::new(), capacity, used: 0, live: 0 }
    }

    /// The address of fresh memory, poisoned; `None` if there is not as much.
    pub fn allocate(&mut self, len: u64) -> Option<u64> {
        let fits = self.used.checked_add(len).is_some_and(|used| used <= self.capacity);
        if !fits || len > 1 << WINDOW_BITS {
            return None;
        }
        let number = self.allocations.len() as u64;
        self.allocations.push(Some(vec![POISON; usize::try_from(len).ok()?].into_boxed_slice()));
        self.used += len;
        self.live += 1;
        Some(BASE | number << WINDOW_BITS)
    }

    /// Fresh memory, poisoned, at the address of an allocation that was freed; false if there is not as much, or if the
    /// address is none of a freed allocation. Graphs keep the addresses of their memory over launches.
    pub fn allocate_at(&mut self, address: u64, len: u64) -> bool {
        let fits =
            self.used.checked_add(len).is_some_and(|used| used <= self.capacity) && len <= 1 << WINDOW_BITS;
        let (Some((number, 0)), true, Ok(size)) = (split(address), fits, usize::try_from(len)) else {
            return false;
        };
        let Some(freed @ None) = self.allocations.get_mut(number) else { return false };
        *freed = Some(vec![POISON; size].into_boxed_slice());
        self.used += len;
        self.live += 1;
        true
    }

    /// Frees an allocation by its first address; false if there is none.
    pub fn free(&mut self, address: u64) -> bool {
        let Some((number, 0)) = split(address) else { return false };
        let Some(freed) = self.allocations.get_mut(number).and_then(Option::take) else { return false };
        self.used -= freed.len() as u64;
        self.live -= 1;
        true
    }

    /// Frees all.
    pub fn free_all(&mut self) {
        self.allocations.fill_with(|| None);
        self.used = 0;
        self.live = 0;
    }

    /// Bytes that are allocated.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Allocations that are not freed.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.live
    }

    /// All bytes of the device.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The memory at `len` bytes from `address` on.
    ///
    /// # Errors
    /// If they are not inside of one allocation.
    pub fn get(&self, address: u64, len: usize) -> Result<&[u8], Fault> {
        let (number, range) = self.locate(address, len)?;
        self.allocations[number]
            .as_deref()
            .and_then(|all| all.get(range))
            .ok_or_else(|| self.fault(address, len))
    }

    /// As [`get`](Self::get), for writing.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_mut(&mut self, address: u64, len: usize) -> Result<&mut [u8], Fault> {
        let (number, range) = self.locate(address, len)?;
        match self.allocations[number].as_deref_mut().and_then(|all| all.get_mut(range)) {
            Some(bytes) => Ok(bytes),
            None => Err(Fault::new(FaultKind::IllegalAddress, format!("{len} bytes at {address:#x}"))),
        }
    }

    #[inline]
    fn locate(&self, address: u64, len: usize) -> Result<(usize, Range<usize>), Fault> {
        if let Some((number, offset)) = split(address)
            && let Some(Some(all)) = self.allocations.get(number)
            && let Some(end) = offset.checked_add(len)
            && end <= all.len()
        {
            return Ok((number, offset..end));
        }
        Err(self.fault(address, len))
    }

    #[cold]
    fn fault(&self, address: u64, len: usize) -> Fault {
        let found = match split(address).map(|(number, offset)| (self.allocations.get(number), offset)) {
            Some((Some(Some(all)), offset)) => {
                format!("byte {offset} of an allocation of {} bytes", all.len())
            }
            Some((Some(None), offset)) => format!("byte {offset} of memory that was freed"),
            _ => "no memory of the device".to_owned(),
        };
        Fault::new(FaultKind::IllegalAddress, format!("{len} bytes at {address:#x}, which is {found}"))
    }
}

/// The number of the allocation and the offset in it.
#[inline]
fn split(address: u64) -> Option<(usize, usize)> {
    let rest = address.checked_sub(BASE)?;
    Some(((rest >> WINDOW_BITS) as usize, (rest & ((1 << WINDOW_BITS) - 1)) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_there_and_nothing_else() {
        let mut memory = Memory::new(100);
        let (a, b) = (memory.allocate(60).expect("room"), memory.allocate(40).expect("room"));
        assert_eq!((memory.used(), memory.live(), memory.allocate(1)), (100, 2, None));
        assert_eq!(memory.get(a, 60), Ok(&[POISON; 60][..]));
        memory.get_mut(b + 8, 4).expect("inside").copy_from_slice(&[1, 2, 3, 4]);
        assert_eq!(memory.get(b + 7, 3), Ok(&[POISON, 1, 2][..]));
        for (address, len, words) in [
            (a + 57, 4, "byte 57 of an allocation of 60 bytes"),
            (b + 40, 1, "byte 40 of an allocation of 40 bytes"),
            (0, 4, "no memory of the device"),
            (u64::MAX, 1, "no memory of the device"),
        ] {
            let fault = memory.get(address, len).expect_err("outside");
            assert!(fault.message.ends_with(words), "{fault}");
            assert_eq!(memory.get_mut(address, len).expect_err("outside"), fault);
        }
        assert!(!memory.free(a + 1) && memory.free(a) && !memory.free(a));
        assert!(memory.get(a, 1).expect_err("freed").message.ends_with("memory that was freed"));
        assert_ne!(memory.allocate(60), Some(a));
        assert_eq!(memory.used(), 100);
    }

    #[test]
    fn memory_comes_back_at_an_address_that_was_freed() {
        let mut memory = Memory::new(100);
        let a = memory.allocate(10).expect("room");
        memory.get_mut(a, 1).expect("inside")[0] = 1;
        assert!(
            !memory.allocate_at(a, 10)
                && memory.free(a)
                && !memory.allocate_at(a, 101)
                && !memory.allocate_at(0, 1)
        );
        assert!(!memory.allocate_at(a + 1, 10) && memory.allocate_at(a, 20));
        assert_eq!((memory.used(), memory.live(), memory.get(a, 20)), (20, 1, Ok(&[POISON; 20][..])));
    }
}
