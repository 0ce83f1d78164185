//! Which [operation](super::Operation) produced a tensor, inside a gradient scope.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use candle_core::{Tensor, TensorId};

use super::op_instance::Producer;
use crate::id_map::IdMap;

#[derive(Default)]
struct Producers {
    /// Gradient scopes that are open on this thread.
    depth: usize,
    by_tensor: IdMap<TensorId, Weak<Producer>>,
}

thread_local! {
    static PRODUCERS: RefCell<Producers> = RefCell::default();
}

/// Records producers on this thread while it lives.
#[derive(Debug)]
pub(crate) struct Recording(());

impl Recording {
    pub(crate) fn start() -> Self {
        PRODUCERS.with_borrow_mut(|producers| producers.depth += 1);
        Self(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        PRODUCERS.with_borrow_mut(|producers| {
            producers.depth -= 1;
            if producers.depth == 0 {
                producers.by_tensor.clear();
            }
        });
    }
}

/// Whether a function is being differentiated on this thread.
#[must_use]
pub fn is_recording() -> bool {
    PRODUCERS.with_borrow(|producers| producers.depth > 0)
}

/// Records which operation produced `output`, if a scope is open.
pub(super) fn record(output: &Tensor, producer: &Arc<Producer>) {
    PRODUCERS.with_borrow_mut(|producers| {
        if producers.depth > 0 {
            producers.by_tensor.insert(output.id(), Arc::downgrade(producer));
        }
    });
}

/// The operation that produced `tensor`, if it was recorded.
pub(super) fn find(tensor: &Tensor) -> Option<Arc<Producer>> {
    PRODUCERS.with_borrow(|producers| producers.by_tensor.get(&tensor.id()).and_then(Weak::upgrade))
}
