//! What this thread derives keys from, while a step is captured.

use std::cell::RefCell;

/// A key that was derived.
#[derive(Clone, Debug)]
pub(crate) enum Derived {
    /// The block of a key at an index: a part of a split, or a number folded in.
    Block { parent: [u32; 2], index: u64, child: [u32; 2] },
    /// The key of a stream, which is now at `position`, in the form of its tensor.
    Drawn { position: Vec<u32>, child: [u32; 2] },
}

thread_local! {
    static LOG: RefCell<Option<Vec<Derived>>> = const { RefCell::new(None) };
}

/// Writes down what is derived from now on.
pub(crate) fn start() {
    LOG.set(Some(Vec::new()));
}

pub(crate) fn stop() {
    LOG.set(None);
}

/// What was derived since the last call.
pub(crate) fn take() -> Vec<Derived> {
    LOG.with_borrow_mut(|log| log.as_mut().map(std::mem::take)).unwrap_or_default()
}

pub(super) fn write(derived: impl FnOnce() -> Derived) {
    LOG.with_borrow_mut(|log| {
        if let Some(log) = log {
            log.push(derived());
        }
    });
}
