//! Which tensors are outputs of which [operations](super::Operation), inside of a gradient scope.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use candle_core::{Tensor, TensorId};

use super::call::Link;
use super::ids::IdMap;

#[derive(Default)]
struct Tape {
    /// Gradient scopes under way on this thread.
    depth: usize,
    outputs: IdMap<TensorId, Weak<Link>>,
}

thread_local! {
    static TAPE: RefCell<Tape> = RefCell::default();
}

/// Keeps the tape of this thread running.
#[derive(Debug)]
pub(crate) struct Running(());

impl Running {
    pub(crate) fn start() -> Self {
        TAPE.with_borrow_mut(|tape| tape.depth += 1);
        Self(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        TAPE.with_borrow_mut(|tape| {
            tape.depth -= 1;
            if tape.depth == 0 {
                tape.outputs.clear();
            }
        });
    }
}

/// Notes whose output a tensor is, if a tape runs.
pub(super) fn enter(output: &Tensor, link: &Arc<Link>) {
    TAPE.with_borrow_mut(|tape| {
        if tape.depth > 0 {
            tape.outputs.insert(output.id(), Arc::downgrade(link));
        }
    });
}

/// Whose output a tensor is.
pub(super) fn find(tensor: &Tensor) -> Option<Arc<Link>> {
    TAPE.with_borrow(|tape| tape.outputs.get(&tensor.id()).and_then(Weak::upgrade))
}
