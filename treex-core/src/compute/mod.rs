//! What the layers' own operations share.
//!
//! [`simd`] runs a plain loop with the instructions of the machine, [`parallel`] shares work among the cores,
//! [`fill`] writes a buffer with such a loop on all of them, [`rows`] has sums along rows, and [`float`] the element
//! types of such loops.
//!
//! An operation with a kernel of its own also has a plain composition of Candle operations: the oracle of
//! its tests, and the path for devices and element types without a kernel.

pub(crate) mod accumulate;
mod buffer;
mod call;
mod custom_vjp;
mod elements;
pub mod fill;
pub mod float;
mod fresh;
pub mod ids;
pub mod math;
pub mod matmul;
mod memory;
mod node;
mod operation;
pub mod parallel;
pub mod rows;
pub mod seen;
pub mod simd;
pub mod softmax;
mod sum;
pub(crate) mod tape;
pub mod vector;

use std::cell::Cell;

pub use buffer::Buffer;
pub use custom_vjp::custom_vjp;
pub use elements::elements;
pub use fresh::Fresh;
pub use memory::keep_memory;
pub use operation::{Operation, Pass, attach, attach_all, name_of, reshape};
pub use sum::sum;

pub use crate::tensors::storage_id;

thread_local! {
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with the plain composition of every operation, on this thread.
pub fn with_plain<R>(f: impl FnOnce() -> R) -> R {
    /// Puts the choice back, after a panic too.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLAIN.set(self.0);
        }
    }
    let _restore = Restore(PLAIN.replace(true));
    f()
}

/// Whether operations on this thread take their plain composition.
#[must_use]
pub fn is_plain() -> bool {
    PLAIN.get()
}
