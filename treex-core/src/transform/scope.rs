//! Gradient scopes: while one is open, the leaves it selected return tracked tensors.
//!
//! A scope is carried by handles, not by a thread, so a forward pass may run on any thread; closing it makes every
//! handle that carries it untracked at once, clones included.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use candle_core::{Tensor, TensorId};

use crate::deep;
use crate::error::{Error, ErrorKind, Result};
use crate::id_map::IdSet;

/// The variables of one differentiation, and whether it is still running.
#[derive(Debug)]
pub(crate) struct Scope {
    open: AtomicBool,
    /// A [`mark`](deep::mark) of when it was opened.
    start: usize,
    vars: Mutex<IdSet<TensorId>>,
    /// Variables of closed scopes on which a value that is still differentiated here may depend: no other scope may use them.
    retired: Mutex<IdSet<TensorId>>,
    /// Whether Candle's own `backward` runs over it, which does not go through links.
    by_candle: bool,
    /// Whether an inner function had a gradient that depends on this scope.
    has_inner_gradient: AtomicBool,
    /// The variables of the scopes inside of this one that stand for values which depend on it, oldest first.
    links: Mutex<Vec<Link>>,
}

/// A leaf that an outer scope tracks gets a variable of its own in an inner scope; the value for which it stands has the
/// rest of the graph.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Identifies the inner scope.
    pub(crate) scope: u64,
    pub(crate) variable: Tensor,
    pub(crate) value: Tensor,
}

/// All open scopes, outermost first, by which the scope of a traced tensor is found.
static OPEN: Mutex<Vec<Weak<Scope>>> = Mutex::new(Vec::new());

fn open_scopes() -> MutexGuard<'static, Vec<Weak<Scope>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scope {
    /// Opens a scope over `vars`. It stays open until [`Self::close`] or until it is dropped.
    pub(crate) fn open(vars: IdSet<TensorId>) -> Arc<Self> {
        Self::open_with(vars, false)
    }

    /// Opens a scope without variables, for Candle's own `backward`.
    pub(crate) fn open_for_candle() -> Arc<Self> {
        Self::open_with(IdSet::default(), true)
    }

    fn open_with(vars: IdSet<TensorId>, by_candle: bool) -> Arc<Self> {
        let scope = Arc::new(Self {
            open: AtomicBool::new(true),
            start: deep::mark(),
            vars: Mutex::new(vars),
            retired: Mutex::default(),
            by_candle,
            has_inner_gradient: AtomicBool::new(false),
            links: Mutex::default(),
        });
        let mut scopes = open_scopes();
        scopes.retain(|scope| scope.strong_count() > 0);
        scopes.push(Arc::downgrade(&scope));
        scope
    }

    /// Runs `f`, which walks or drops a graph that was made in this scope or in an open one outside of it, with enough stack.
    pub(crate) fn with_room<R>(&self, f: impl FnOnce() -> R) -> R {
        let others = self.others();
        let start = others.iter().map(|scope| scope.start).min().unwrap_or(self.start);
        deep::with_room(start.min(self.start), f)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
        self.lock_links().clear();
        open_scopes().retain(|scope| scope.upgrade().is_some_and(|scope| scope.is_open()));
    }

    fn lock_links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a scope inside of this one differentiated a value that depends on it.
    pub(crate) fn has_linked(&self) -> bool {
        !self.lock_links().is_empty()
    }

    /// Notes that the gradient of an inner function, which was handed out here, depends on this scope.
    pub(crate) fn note_inner_gradient(&self) {
        self.has_inner_gradient.store(true, Ordering::Release);
    }

    /// Whether all gradients of inner functions were constants here, if there were any: those of linear functions.
    pub(crate) fn has_constant_inner_gradients(&self) -> bool {
        self.has_linked() && !self.has_inner_gradient.load(Ordering::Acquire)
    }

    /// The links of this scope, oldest first.
    pub(crate) fn links(&self) -> Vec<Link> {
        self.lock_links().clone()
    }

    /// Lets `link`'s variable stand for its value in each open scope on which the value depends.
    ///
    /// # Errors
    /// If Candle's own `backward` runs over one of these.
    pub(crate) fn link(link: &Link) -> Result<()> {
        let owners = Self::owners_of(&link.value);
        if owners.iter().any(|scope| scope.by_candle) {
            let message = "a leaf of a tree that `tracked` returned is differentiated, and Candle's `backward` would not see it";
            return Err(Error::new(ErrorKind::Gradient, message).remedy(
                "call `value_and_grad` on the tree itself, or on `stop_gradient(&tracked)`; for a gradient of a gradient, \
                 call it inside of another `value_and_grad`",
            ));
        }
        owners.iter().for_each(|scope| scope.lock_links().push(link.clone()));
        Ok(())
    }

    /// Lets no other scope use `vars` while this one is open.
    pub(crate) fn retire(&self, vars: impl Iterator<Item = TensorId>) {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).extend(vars);
    }

    /// The other open scopes.
    pub(crate) fn others(&self) -> Vec<Arc<Self>> {
        Self::open_where(|scope| !std::ptr::eq(scope, self))
    }

    /// All open scopes, outermost first.
    fn all_open() -> Vec<Arc<Self>> {
        Self::open_where(|_| true)
    }

    /// The open scopes that `is_wanted` selects, outermost first.
    fn open_where(is_wanted: impl Fn(&Self) -> bool) -> Vec<Arc<Self>> {
        let wanted = |scope: &Arc<Self>| scope.is_open() && is_wanted(scope);
        open_scopes().iter().filter_map(Weak::upgrade).filter(wanted).collect()
    }

    fn lock_vars(&self) -> MutexGuard<'_, IdSet<TensorId>> {
        self.vars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a variable one of this scope, unless an open scope has or retired it: one step, so that two threads never
    /// differentiate by one variable.
    pub(crate) fn claim(&self, id: TensorId) -> bool {
        let scopes = open_scopes();
        let retired =
            |scope: &Self| scope.retired.lock().unwrap_or_else(PoisonError::into_inner).contains(&id);
        let has = |scope: &Arc<Self>| scope.is_open() && (scope.lock_vars().contains(&id) || retired(scope));
        // This scope itself is one of them, mostly the only one.
        let is_taken = scopes.len() > 1 && scopes.iter().filter_map(Weak::upgrade).any(|scope| has(&scope));
        !is_taken && self.lock_vars().insert(id)
    }

    /// The outermost open scope on which `tensor` depends. The outermost, since it is open longest.
    pub(crate) fn owner_of(tensor: &Tensor) -> Option<Arc<Self>> {
        Self::owners_of(tensor).into_iter().next()
    }

    /// The open scopes on which `tensor` depends, outermost first.
    pub(crate) fn owners_of(tensor: &Tensor) -> Vec<Arc<Self>> {
        Self::among(Self::all_open(), tensor)
    }

    /// Those of `scopes` on which `tensor` depends.
    pub(crate) fn among(mut scopes: Vec<Arc<Self>>, tensor: &Tensor) -> Vec<Arc<Self>> {
        if scopes.is_empty() || !tensor.track_op() {
            return Vec::new();
        }
        let start = scopes.iter().map(|scope| scope.start).min().unwrap_or(0);
        let vars = deep::with_room(start, || variables_below(tensor));
        scopes.retain(|scope| {
            let is_linked = |link: &Link| vars.contains(&link.variable.id());
            !scope.lock_vars().is_disjoint(&vars) || scope.lock_links().iter().any(is_linked)
        });
        scopes
    }
}

/// The variables on which `tensor` depends.
fn variables_below(tensor: &Tensor) -> IdSet<TensorId> {
    tensor.sorted_nodes().into_iter().filter(|node| node.is_variable()).map(Tensor::id).collect()
}
