//! Work on all cores. The scheduler is compiled once, not anew for each kernel and element type: it sees an index and
//! a function without a type.

use rayon::prelude::*;

/// Runs `f` for each index below `count`; on all cores if `parallel`, otherwise in order.
pub fn for_each(count: usize, parallel: bool, f: &(dyn Fn(usize) + Sync)) {
    if parallel && count > 1 {
        (0..count).into_par_iter().for_each(f);
    } else {
        (0..count).for_each(f);
    }
}

/// Memory of which each thread writes its own part.
#[derive(Debug)]
pub struct Shared<T>(*mut T);

// SAFETY: a pointer by itself does nothing; whoever writes through it says why nobody else does.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// What begins at `start`.
    pub fn new(start: *mut T) -> Self {
        Self(start)
    }

    /// So many elements after the beginning.
    #[must_use]
    pub fn at(&self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

/// A buffer of which each index has a part of its own.
pub(super) struct Parts<T> {
    start: Shared<T>,
    len: usize,
    /// Elements of a part; the last one may have fewer.
    size: usize,
}

impl<T> Parts<T> {
    /// Parts of `size` elements, at least 1.
    pub(super) fn of(buffer: &mut [T], size: usize) -> Self {
        Self { start: Shared::new(buffer.as_mut_ptr()), len: buffer.len(), size: size.max(1) }
    }

    pub(super) fn count(&self) -> usize {
        self.len.div_ceil(self.size)
    }

    /// # Safety
    /// The buffer is still borrowed, `index` is below [`count`](Self::count), and nobody else has the part.
    #[expect(clippy::mut_from_ref, reason = "each part is handed out once")]
    pub(super) unsafe fn get(&self, index: usize) -> &mut [T] {
        let first = index * self.size;
        let len = self.size.min(self.len - first);
        // SAFETY: the part is inside of the buffer, and exclusive as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.at(first), len) }
    }
}
