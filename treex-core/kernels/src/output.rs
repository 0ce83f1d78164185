//! A new array written by several threads, each its own rows.

use std::mem::MaybeUninit;

use crate::error::Result;
use crate::memory::with_capacity;
use crate::parallel::Shared;

/// A new array whose rows are written by several threads.
#[derive(Debug)]
pub struct Output<T> {
    memory: Vec<T>,
    start: Shared<T>,
    len: usize,
}

impl<T: Copy> Output<T> {
    /// An uninitialized array of `len` elements.
    ///
    /// # Errors
    /// If it cannot be allocated.
    pub fn new(len: usize) -> Result<Self> {
        let mut memory = with_capacity::<T>(len)?;
        Ok(Self { start: Shared::new(memory.as_mut_ptr()), memory, len })
    }

    /// `len` elements from `at` on.
    ///
    /// # Panics
    /// If they are out of bounds.
    ///
    /// # Safety
    /// Nothing else accesses them during the borrow.
    #[expect(clippy::mut_from_ref, reason = "the caller ensures that the rows are disjoint")]
    pub unsafe fn row(&self, at: usize, len: usize) -> &mut [MaybeUninit<T>] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: they are in bounds, and the caller ensures exclusive access.
        unsafe { std::slice::from_raw_parts_mut(self.start.at(at).cast(), len) }
    }

    /// The array.
    ///
    /// # Safety
    /// All elements have been written.
    pub unsafe fn finish(mut self) -> Vec<T> {
        // SAFETY: the capacity suffices, and the caller ensures that all elements are initialized.
        unsafe { self.memory.set_len(self.len) };
        self.memory
    }
}
