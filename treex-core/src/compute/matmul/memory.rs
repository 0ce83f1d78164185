//! Memory for copies, which a thread keeps.

use std::cell::Cell;

/// What a vector is loaded from at once.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _bytes: [u8; 64],
}

thread_local! {
    static MEMORY: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The memory of this thread, taken out: whoever takes it meanwhile begins with none.
pub(super) struct Memory(Vec<Line>);

impl Memory {
    pub(super) fn take() -> Self {
        Self(MEMORY.take())
    }

    pub(super) fn give_back(self) {
        MEMORY.set(self.0);
    }

    /// Room for so many elements, and for so many others. They are some numbers.
    pub(super) fn room<T>(&mut self, first: usize, second: usize) -> [*mut T; 2] {
        let lines = |len: usize| (len * size_of::<T>()).div_ceil(size_of::<Line>());
        let (first, len) = (lines(first), lines(first) + lines(second));
        if self.0.len() < len {
            self.0.resize(len, Line { _bytes: [0; 64] });
        }
        let memory = self.0.as_mut_ptr();
        [memory.cast(), memory.wrapping_add(first).cast()]
    }
}
