//! Gradient scopes: while one is open, the leaves it selected return tracked tensors.
//!
//! A scope is carried by handles, not by a thread, so a forward pass may run on any thread; closing it makes every
//! handle that carries it untracked at once, clones included.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use candle_core::{Tensor, TensorId};

use crate::id_map::IdSet;

/// The variables of one differentiation, and whether it is still running.
#[derive(Debug)]
pub(crate) struct Scope {
    open: AtomicBool,
    vars: IdSet<TensorId>,
}

/// All open scopes, outermost first, by which the scope of a traced tensor is found.
static OPEN: Mutex<Vec<Weak<Scope>>> = Mutex::new(Vec::new());

fn open_scopes() -> MutexGuard<'static, Vec<Weak<Scope>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scope {
    /// Opens a scope over `vars`. It stays open until [`Self::close`] or until it is dropped.
    pub(crate) fn open(vars: IdSet<TensorId>) -> Arc<Self> {
        let scope = Arc::new(Self { open: AtomicBool::new(true), vars });
        let mut scopes = open_scopes();
        scopes.retain(|scope| scope.strong_count() > 0);
        scopes.push(Arc::downgrade(&scope));
        scope
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
        open_scopes().retain(|scope| scope.upgrade().is_some_and(|scope| scope.is_open()));
    }

    /// Whether no other scope is open.
    pub(crate) fn is_alone(&self) -> bool {
        let is_other = |scope: &Arc<Self>| scope.is_open() && !std::ptr::eq(Arc::as_ptr(scope), self);
        !open_scopes().iter().filter_map(Weak::upgrade).any(|scope| is_other(&scope))
    }

    /// Whether an open scope differentiates by the variable with this id.
    pub(crate) fn tracks(id: TensorId) -> bool {
        open_scopes()
            .iter()
            .filter_map(Weak::upgrade)
            .any(|scope| scope.is_open() && scope.vars.contains(&id))
    }

    /// The outermost open scope on whose variables `tensor` depends. The outermost, since it is open longest.
    pub(crate) fn owner_of(tensor: &Tensor) -> Option<Arc<Self>> {
        if !tensor.track_op() {
            return None;
        }
        let scopes: Vec<_> =
            open_scopes().iter().filter_map(Weak::upgrade).filter(|scope| scope.is_open()).collect();
        if scopes.is_empty() {
            return None;
        }
        let vars: IdSet<_> =
            tensor.sorted_nodes().iter().filter(|node| node.is_variable()).map(|node| node.id()).collect();
        scopes.into_iter().find(|scope| !scope.vars.is_disjoint(&vars))
    }
}
