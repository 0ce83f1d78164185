//! New memory that several threads write.

use std::mem::MaybeUninit;

use treex_core::compute::parallel::Shared;
use treex_core::{Error, Result};

/// New memory, written row by row from several threads.
pub(crate) struct Output<T> {
    memory: Vec<T>,
    start: Shared<T>,
    len: usize,
}

impl<T: Copy> Output<T> {
    pub(crate) fn new(len: usize) -> Result<Self> {
        let mut memory = Vec::new();
        memory
            .try_reserve_exact(len)
            .map_err(|_| Error::argument("there is no memory for so many elements").found(len))?;
        Ok(Self { start: Shared::new(memory.as_mut_ptr()), memory, len })
    }

    /// The elements from `at` on.
    ///
    /// # Safety
    /// Nobody else uses them as long.
    #[allow(clippy::mut_from_ref)] // the caller answers for it
    pub(crate) unsafe fn row(&self, at: usize, len: usize) -> &mut [MaybeUninit<T>] {
        assert!(at + len <= self.len);
        // SAFETY: there is room for `self.len` elements, and these are the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.start.at(at).cast(), len) }
    }

    /// The elements.
    ///
    /// # Safety
    /// All have been written.
    pub(crate) unsafe fn finish(mut self) -> Vec<T> {
        // SAFETY: there is room for them, and the caller says that they are there.
        unsafe { self.memory.set_len(self.len) };
        self.memory
    }
}
