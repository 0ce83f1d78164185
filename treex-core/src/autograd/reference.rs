//! The choice between an operation's kernel and its reference composition.

use std::cell::Cell;

thread_local! {
    static REFERENCE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with the reference composition of every operation, on this thread.
pub fn with_reference<R>(f: impl FnOnce() -> R) -> R {
    /// Restores the choice, also after a panic.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            REFERENCE.set(self.0);
        }
    }
    let _restore = Restore(REFERENCE.replace(true));
    f()
}

/// Whether operations on this thread take their reference composition.
#[must_use]
pub fn is_reference() -> bool {
    REFERENCE.get()
}
