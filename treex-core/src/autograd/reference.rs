//! The choice between an operation's kernel and its reference composition.

use std::cell::Cell;
use std::thread::LocalKey;

thread_local! {
    static REFERENCE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with the reference composition of every operation, on this thread.
pub fn with_reference<R>(f: impl FnOnce() -> R) -> R {
    with_value(&REFERENCE, true, f)
}

/// Sets a thread-local while `f` runs, and restores it, also after a panic.
pub(super) fn with_value<T: Copy + 'static, R>(
    local: &'static LocalKey<Cell<T>>,
    value: T,
    f: impl FnOnce() -> R,
) -> R {
    struct Restore<T: Copy + 'static>(&'static LocalKey<Cell<T>>, T);
    impl<T: Copy + 'static> Drop for Restore<T> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(local, local.replace(value));
    f()
}

/// Whether operations on this thread take their reference composition.
#[must_use]
pub fn is_reference() -> bool {
    REFERENCE.get()
}
