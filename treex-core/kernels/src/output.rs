//! New memory that several threads write, each its own rows.

use std::mem::MaybeUninit;

use crate::error::{Error, Result};
use crate::parallel::Shared;

/// New memory, written row by row from several threads.
#[derive(Debug)]
pub struct Output<T> {
    memory: Vec<T>,
    start: Shared<T>,
    len: usize,
}

impl<T: Copy> Output<T> {
    /// Memory for `len` elements, not initialized.
    ///
    /// # Errors
    /// If it cannot be allocated.
    pub fn new(len: usize) -> Result<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { elements: len })?;
        Ok(Self { start: Shared::new(memory.as_mut_ptr()), memory, len })
    }

    /// The elements from `at` on.
    ///
    /// # Safety
    /// Nobody else uses them as long.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that the rows are disjoint")]
    pub unsafe fn row(&self, at: usize, len: usize) -> &mut [MaybeUninit<T>] {
        assert!(at + len <= self.len);
        // SAFETY: there is room for `self.len` elements, and these are the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.start.at(at).cast(), len) }
    }

    /// The elements.
    ///
    /// # Safety
    /// All have been written.
    pub unsafe fn finish(mut self) -> Vec<T> {
        // SAFETY: there is room for them, and the caller says that they are there.
        unsafe { self.memory.set_len(self.len) };
        self.memory
    }
}
