//! Global memory: each allocation in a window of addresses of its own, so that a stray access is always seen.
//!
//! An address is `1 << 62 | allocation << 36 | offset`. The processor of the host refuses such addresses, no allocation
//! has neighbours, and none gets the address of one that was freed. It is known which bytes were written: a use of others
//! is a fault. A copy is no use, and what was not written is not written behind it either.

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
    allocations: Vec<Option<Allocation>>,
    capacity: u64,
    used: u64,
    live: u64,
    /// Whether it is known what was written.
    tracks_writes: bool,
}

#[derive(Debug)]
struct Allocation {
    bytes: Box<[u8]>,
    /// `None` once all bytes were written, and where it is not tracked.
    written: Option<Written>,
}

/// Which bytes of an allocation were written.
#[derive(Debug)]
struct Written {
    /// A bit for each byte.
    bits: Box<[u64]>,
    /// How many bytes were not.
    missing: usize,
}

impl Written {
    fn nothing_of(len: usize) -> Self {
        Self { bits: vec![0; len.div_ceil(64)].into(), missing: len }
    }

    fn all_of(len: usize) -> Self {
        Self { bits: vec![u64::MAX; len.div_ceil(64)].into(), missing: 0 }
    }

    /// The words that hold the bits of a range, each with the bits in it.
    fn words(range: &Range<usize>) -> impl Iterator<Item = (usize, u64)> {
        let Range { start, end } = *range;
        let words = if range.is_empty() { 0..0 } else { start / 64..end.div_ceil(64) };
        words.map(move |word| {
            let (low, high) = (start.max(64 * word) - 64 * word, end.min(64 * word + 64) - 64 * word);
            (word, (u64::MAX >> (64 - (high - low))) << low)
        })
    }

    fn add(&mut self, range: &Range<usize>) {
        for (word, mask) in Self::words(range) {
            self.missing -= (mask & !self.bits[word]).count_ones() as usize;
            self.bits[word] |= mask;
        }
    }

    fn remove(&mut self, range: &Range<usize>) {
        for (word, mask) in Self::words(range) {
            self.missing += (mask & self.bits[word]).count_ones() as usize;
            self.bits[word] &= !mask;
        }
    }

    /// The first byte of a range that was not written.
    fn first_missing(&self, range: &Range<usize>) -> Option<usize> {
        Self::words(range)
            .find(|&(word, mask)| mask & !self.bits[word] != 0)
            .map(|(word, mask)| 64 * word + (mask & !self.bits[word]).trailing_zeros() as usize)
    }
}

impl Allocation {
    fn new(len: usize, tracks_writes: bool) -> Self {
        let written = (tracks_writes && len > 0).then(|| Written::nothing_of(len));
        Self { bytes: vec![POISON; len].into_boxed_slice(), written }
    }

    fn note_write(&mut self, range: &Range<usize>) {
        let Some(written) = &mut self.written else { return };
        if range.len() < self.bytes.len() {
            written.add(range);
        }
        if range.len() == self.bytes.len() || written.missing == 0 {
            self.written = None;
        }
    }
}

impl Memory {
    /// Memory of this many bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { allocations: Vec::new(), capacity, used: 0, live: 0, tracks_writes: true }
    }

    /// Memory in which a use of bytes that nothing has written is no fault.
    #[must_use]
    pub fn untracked(capacity: u64) -> Self {
        Self { tracks_writes: false, ..Self::new(capacity) }
    }

    /// The address of fresh memory, poisoned; `None` if there is not as much.
    pub fn allocate(&mut self, len: u64) -> Option<u64> {
        let fits = self.used.checked_add(len).is_some_and(|used| used <= self.capacity);
        if !fits || len > 1 << WINDOW_BITS {
            return None;
        }
        let number = self.allocations.len() as u64;
        self.allocations.push(Some(Allocation::new(usize::try_from(len).ok()?, self.tracks_writes)));
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
        *freed = Some(Allocation::new(size, self.tracks_writes));
        self.used += len;
        self.live += 1;
        true
    }

    /// Frees an allocation by its first address; false if there is none.
    pub fn free(&mut self, address: u64) -> bool {
        let Some((number, 0)) = split(address) else { return false };
        let Some(freed) = self.allocations.get_mut(number).and_then(Option::take) else { return false };
        self.used -= freed.bytes.len() as u64;
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

    /// The memory at `len` bytes from `address` on, for a look: they may be bytes that nothing has written.
    ///
    /// # Errors
    /// If they are not inside of one allocation.
    pub fn get(&self, address: u64, len: usize) -> Result<&[u8], Fault> {
        let (number, range) = self.locate(address, len)?;
        Ok(self.allocations[number].as_ref().map_or(&[], |allocation| &allocation.bytes[range]))
    }

    /// As [`get`](Self::get), for a use.
    ///
    /// # Errors
    /// As [`get`](Self::get), and if one of the bytes was never written.
    pub fn read(&self, address: u64, len: usize) -> Result<&[u8], Fault> {
        self.check_written(address, len)?;
        self.get(address, len)
    }

    /// As [`get`](Self::get), for writing: all of them count as written.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_mut(&mut self, address: u64, len: usize) -> Result<&mut [u8], Fault> {
        let (number, range) = self.locate(address, len)?;
        match &mut self.allocations[number] {
            Some(allocation) => {
                allocation.note_write(&range);
                Ok(&mut allocation.bytes[range])
            }
            None => Err(Fault::new(FaultKind::IllegalAddress, format!("{len} bytes at {address:#x}"))),
        }
    }

    /// As [`get_mut`](Self::get_mut), for an update of what is there.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn update(&mut self, address: u64, len: usize) -> Result<&mut [u8], Fault> {
        self.check_written(address, len)?;
        self.get_mut(address, len)
    }

    /// Copies, as if the source was read first. Bytes that nothing has written stay such.
    ///
    /// # Errors
    /// As [`get`](Self::get), of source and destination.
    pub fn copy(&mut self, to: u64, from: u64, len: usize) -> Result<(), Fault> {
        let (source, of) = self.locate(from, len)?;
        let bytes = self.get(from, len)?.to_vec();
        let holes: Vec<usize> = match &self.allocations[source] {
            Some(Allocation { written: Some(written), .. }) if written.first_missing(&of).is_some() => (0
                ..len)
                .filter(|at| written.first_missing(&(of.start + at..of.start + at + 1)).is_some())
                .collect(),
            _ => Vec::new(),
        };
        self.get_mut(to, len)?.copy_from_slice(&bytes);
        let (destination, range) = self.locate(to, len)?;
        if let (Some(allocation), false) = (&mut self.allocations[destination], holes.is_empty()) {
            let size = allocation.bytes.len();
            let written = allocation.written.get_or_insert_with(|| Written::all_of(size));
            holes.into_iter().map(|at| range.start + at).for_each(|at| written.remove(&(at..at + 1)));
        }
        Ok(())
    }

    #[inline]
    fn check_written(&self, address: u64, len: usize) -> Result<(), Fault> {
        let (number, range) = self.locate(address, len)?;
        let Some(Allocation { bytes, written: Some(written) }) = &self.allocations[number] else {
            return Ok(());
        };
        let Some(missing) = written.first_missing(&range) else { return Ok(()) };
        let message = format!(
            "{len} bytes at {address:#x}, of which nothing has written byte {missing} of an allocation of {} bytes",
            bytes.len()
        );
        Err(Fault::new(FaultKind::UninitializedGlobal, message))
    }

    #[inline]
    fn locate(&self, address: u64, len: usize) -> Result<(usize, Range<usize>), Fault> {
        if let Some((number, offset)) = split(address)
            && let Some(Some(allocation)) = self.allocations.get(number)
            && let Some(end) = offset.checked_add(len)
            && end <= allocation.bytes.len()
        {
            return Ok((number, offset..end));
        }
        Err(self.fault(address, len))
    }

    #[cold]
    fn fault(&self, address: u64, len: usize) -> Fault {
        let found = match split(address).map(|(number, offset)| (self.allocations.get(number), offset)) {
            Some((Some(Some(allocation)), offset)) => {
                format!("byte {offset} of an allocation of {} bytes", allocation.bytes.len())
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

    #[test]
    fn what_nothing_has_written_is_not_used() {
        let mut memory = Memory::new(1 << 10);
        let (a, b) = (memory.allocate(200).expect("room"), memory.allocate(200).expect("room"));
        let words =
            |fault: Fault| (fault.kind, fault.message.split(", ").nth(1).expect("two parts").to_owned());
        let of = |byte: usize| {
            (
                FaultKind::UninitializedGlobal,
                format!("of which nothing has written byte {byte} of an allocation of 200 bytes"),
            )
        };
        assert_eq!(words(memory.read(a + 4, 4).expect_err("fresh")), of(4));
        memory.get_mut(a + 60, 80).expect("inside").fill(1);
        assert_eq!(memory.read(a + 60, 80), Ok(&[1; 80][..]));
        assert_eq!(words(memory.read(a + 60, 81).expect_err("one more")), of(140));
        assert_eq!(words(memory.update(a + 59, 2).expect_err("one before")), of(59));
        assert!(memory.update(a + 139, 1).is_ok());
        // A copy takes along what was not written, also over what was.
        memory.get_mut(b, 200).expect("inside").fill(2);
        memory.copy(b + 8, a + 56, 8).expect("inside");
        assert_eq!(words(memory.read(b, 200).expect_err("copied")), of(8));
        assert_eq!(memory.read(b + 12, 188).expect("written")[..5], [1, 1, 1, 1, 2]);
        memory.get_mut(b + 8, 4).expect("inside").fill(3);
        assert!(memory.read(b, 200).is_ok());
        // Byte by byte, in any order, until all are there.
        (140..200).chain(0..60).for_each(|at| memory.get_mut(a + at, 1).expect("inside")[0] = 1);
        assert!(memory.read(a, 200).is_ok());
        memory.copy(a, a + 1, 199).expect("inside");
        let mut untracked = Memory::untracked(8);
        let c = untracked.allocate(8).expect("room");
        assert_eq!(untracked.read(c, 8), Ok(&[POISON; 8][..]));
        assert!(memory.read(b, 0).is_ok() && memory.copy(b, a, 0).is_ok());
    }
}
