//! Memory for packed copies, kept by each thread.

use std::cell::Cell;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _bytes: [u8; 64],
}

thread_local! {
    static SCRATCH: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The memory of this thread, taken out: a nested product starts with none.
pub(super) struct Scratch(Vec<Line>);

impl Scratch {
    pub(super) fn take() -> Self {
        Self(SCRATCH.take())
    }

    pub(super) fn release(self) {
        SCRATCH.set(self.0);
    }

    /// Two buffers of `first` and `second` elements, aligned to cache lines. Their values are unspecified.
    pub(super) fn buffers<T>(&mut self, first: usize, second: usize) -> [*mut T; 2] {
        let lines = |len: usize| (len * size_of::<T>()).div_ceil(size_of::<Line>());
        let (first, len) = (lines(first), lines(first) + lines(second));
        if self.0.len() < len {
            self.0.resize(len, Line { _bytes: [0; 64] });
        }
        let memory = self.0.as_mut_ptr();
        [memory.cast(), memory.wrapping_add(first).cast()]
    }
}
