//! Handles: leaves without their kind, and the cells they share.
//!
//! **Law: value semantics.** A clone shares its cells and behaves as a snapshot: writing one tree never changes
//! another, nor another place of the same tree. How this is kept:
//!
//! - a value that enters a cell is copied into storage of its own (a Candle variable), so no two cells share storage,
//!   whether the value came as a view, a reshape, or straight out of another leaf;
//! - storage is written in place by [`Handle::write`] and through `Handle::make_mut` only, which first ensure that
//!   this handle is the only holder of the cell and that no gradient scope reads it. Inside a function that is being
//!   differentiated, every write goes to a new cell.
//!
//! **Law: tracking.** Whether `get` returns a tracked tensor is decided by the handle's scope, never by the cell: a
//! tree that shares cells with one that is being differentiated is not tracked.

use std::fmt;
use std::sync::{Arc, LazyLock};

use candle_core::{DType, Device, Shape, Tensor, Var};

use super::kind::KindTag;
use crate::autograd::producers;
use crate::error::{Error, ErrorKind, Result, Subject};
use crate::init::initializer::Initializer;
use crate::tensors;
use crate::transfers::transfer;
use crate::transform::scope::Scope;

/// A leaf without its kind: a shared cell, and what this holder of the cell adds to it.
#[derive(Clone)]
pub struct Handle {
    slot: Arc<Slot>,
    /// `None` is the default, which most leaves have: so a handle is two words, and a tree is copied fast.
    holding: Option<Arc<Holding>>,
}

/// What belongs to one holder of a cell.
#[derive(Clone, Default)]
struct Holding {
    /// The scope in which the leaf is tracked.
    scope: Option<Arc<Scope>>,
    /// See [`Tree::freeze`](crate::Tree::freeze).
    frozen: bool,
}

enum Slot {
    Nothing,
    Initializer(Initializer),
    /// `tensor` is a variable (its storage belongs to this cell alone), a traced tensor inside a scope, or a
    /// borrowed tensor (a gradient), which is never written in place.
    /// `storage` is its [`storage_id`](tensors::storage_id), constant for the life of the cell.
    Value {
        tensor: Tensor,
        detached: Tensor,
        storage: usize,
    },
}

static NOTHING: LazyLock<Arc<Slot>> = LazyLock::new(|| Arc::new(Slot::Nothing));
static FROZEN: LazyLock<Arc<Holding>> = LazyLock::new(|| Arc::new(Holding { scope: None, frozen: true }));

impl Handle {
    fn new(slot: Slot) -> Self {
        Self { slot: Arc::new(slot), holding: None }
    }

    /// An uninitialized cell.
    pub(crate) fn uninitialized(initializer: Initializer) -> Self {
        Self::new(Slot::Initializer(initializer))
    }

    pub(crate) fn nothing() -> Self {
        Self { slot: Arc::clone(&NOTHING), holding: None }
    }

    /// Takes the cell and the scope of `other`, and keeps this leaf's frozen flag.
    pub(crate) fn replace(&mut self, other: Self) {
        let frozen = self.is_frozen();
        *self = other;
        self.set_frozen(frozen);
    }

    /// Whether [`freeze`](crate::Tree::freeze) excluded this leaf from training.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.holding.as_ref().is_some_and(|holding| holding.frozen)
    }

    pub(crate) fn set_frozen(&mut self, frozen: bool) {
        if frozen != self.is_frozen() {
            self.hold(Holding { scope: self.scope().cloned(), frozen });
        }
    }

    /// The scope in which this leaf is tracked.
    pub(crate) fn scope(&self) -> Option<&Arc<Scope>> {
        self.holding.as_ref()?.scope.as_ref()
    }

    pub(crate) fn set_scope(&mut self, scope: Option<Arc<Scope>>) {
        if scope.is_some() || self.scope().is_some() {
            self.hold(Holding { scope, frozen: self.is_frozen() });
        }
    }

    /// Tracks `leaves`, none of which is frozen, in `scope`. They share one `Holding`.
    pub(crate) fn track_all(leaves: Vec<&mut Self>, scope: &Arc<Scope>) {
        let holding = Arc::new(Holding { scope: Some(Arc::clone(scope)), frozen: false });
        for leaf in leaves {
            leaf.holding = Some(Arc::clone(&holding));
        }
    }

    fn hold(&mut self, holding: Holding) {
        self.holding = match holding {
            Holding { scope: None, frozen: false } => None,
            Holding { scope: None, frozen: true } => Some(Arc::clone(&FROZEN)),
            tracked => Some(Arc::new(tracked)),
        };
    }

    /// The same cell, untracked.
    pub(crate) fn untracked(&self) -> Self {
        let mut handle = self.clone();
        handle.set_scope(None);
        handle
    }

    /// Copies `tensor` into a cell; tracked if an open scope tracks `tensor`.
    pub(crate) fn from_copy(tensor: &Tensor) -> Result<Self> {
        match Scope::owner_of(tensor) {
            Some(scope) => {
                let mut traced = Self::from_shared(tensor.force_contiguous()?);
                traced.set_scope(Some(scope));
                Ok(traced)
            }
            None => Self::variable(tensor),
        }
    }

    /// Copies `tensor` into a variable, detached.
    fn variable(tensor: &Tensor) -> Result<Self> {
        Ok(Self::from_shared(copied(tensor)?.as_tensor().clone()))
    }

    /// A cell around a tensor that may have other holders.
    pub(crate) fn from_shared(tensor: Tensor) -> Self {
        let (detached, storage) = (tensor.detach(), tensors::storage_id(&tensor));
        Self::new(Slot::Value { tensor, detached, storage })
    }

    /// This cell, or a copy if its tensor is borrowed and may share storage.
    pub(crate) fn to_owned_storage(&self) -> Result<Self> {
        match &*self.slot {
            Slot::Value { tensor, .. } if !tensor.track_op() => Self::variable(tensor),
            // A value of a function that is being differentiated stays in its graph.
            Slot::Value { tensor, .. } if !tensor.is_variable() && self.scope().is_none() => {
                let mut traced = self.clone();
                traced.set_scope(Scope::owner_of(tensor));
                Ok(traced)
            }
            _ => Ok(self.clone()),
        }
    }

    pub(crate) fn get(&self, kind: KindTag) -> Result<Tensor> {
        match &*self.slot {
            Slot::Value { detached, .. } if !self.is_tracked() => Ok(detached.clone()),
            _ => self.variable_or_traced(kind).cloned(),
        }
    }

    /// The tensor in this cell, tracked or not.
    fn variable_or_traced(&self, kind: KindTag) -> Result<&Tensor> {
        match &*self.slot {
            Slot::Value { tensor, .. } => Ok(tensor),
            Slot::Initializer(initializer) => Err(self.uninitialized_error(kind, initializer)),
            Slot::Nothing => Err(Error::new(
                ErrorKind::FilteredOut,
                format!("a leaf of kind `{kind}` was filtered out"),
            )
            .about(Subject::Leaf(self.address()))
            .remedy("call the whole model: `model.updated(&filtered)?` puts the filtered tree back into it")),
        }
    }

    fn uninitialized_error(&self, kind: KindTag, initializer: &Initializer) -> Error {
        let shape =
            initializer.shape().map_or_else(String::new, |shape| format!(" and shape {:?}", shape.dims()));
        Error::new(ErrorKind::Uninitialized, format!("a leaf of kind `{kind}`{shape} has no value yet"))
            .about(Subject::Leaf(self.address()))
            .remedy("call `let model = model.init(seed, &device)?` or load a checkpoint first")
    }

    /// The detached value, if any. It is a view, valid until the next write in place.
    #[must_use]
    pub fn value(&self) -> Option<&Tensor> {
        match &*self.slot {
            Slot::Value { detached, .. } => Some(detached),
            _ => None,
        }
    }

    /// The tensor in this cell, if any: a variable, whose memory is the cell's own, or one that may have other holders.
    pub(crate) fn stored(&self) -> Option<&Tensor> {
        match &*self.slot {
            Slot::Value { tensor, .. } => Some(tensor),
            _ => None,
        }
    }

    /// The value as this holder sees it: tracked in its scope.
    pub(crate) fn tracked_value(&self) -> Option<&Tensor> {
        match &*self.slot {
            Slot::Value { tensor, detached, .. } => Some(if self.is_tracked() { tensor } else { detached }),
            _ => None,
        }
    }

    /// Identifies the memory of the value, if any: [`storage_id`](crate::autograd::storage_id) without a lock.
    #[must_use]
    pub fn storage(&self) -> Option<usize> {
        match &*self.slot {
            Slot::Value { storage, .. } => Some(*storage),
            _ => None,
        }
    }

    /// Changes the initializer, if any, in a cell of its own.
    pub(crate) fn map_initializer(&mut self, change: impl FnOnce(Initializer) -> Initializer) {
        if let Some(initializer) = self.initializer() {
            self.replace(Self::new(Slot::Initializer(change(initializer.clone()))));
        }
    }

    pub(crate) fn initializer(&self) -> Option<&Initializer> {
        match &*self.slot {
            Slot::Initializer(initializer) => Some(initializer),
            _ => None,
        }
    }

    /// Whether a filter took this leaf out.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(&*self.slot, Slot::Nothing)
    }

    /// The shape of the value, or that declared by the initializer.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        match &*self.slot {
            Slot::Value { detached, .. } => Some(detached.shape()),
            Slot::Initializer(initializer) => initializer.shape(),
            Slot::Nothing => None,
        }
    }

    /// The element type of the value, or that declared by the initializer.
    #[must_use]
    pub fn dtype(&self) -> Option<DType> {
        match &*self.slot {
            Slot::Value { detached, .. } => Some(detached.dtype()),
            Slot::Initializer(initializer) => initializer.dtype(),
            Slot::Nothing => None,
        }
    }

    /// Whether a function is being differentiated by this leaf: `get` returns a tracked tensor.
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        self.scope().is_some_and(|scope| scope.is_open())
    }

    /// Identifies this leaf, so that an error can find its path.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Identifies the cell: equal for two holders of one cell.
    pub(crate) fn cell(&self) -> usize {
        Arc::as_ptr(&self.slot).addr()
    }

    /// Equality bit for bit.
    pub(crate) fn same(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.slot, &other.slot) {
            return true;
        }
        match (&*self.slot, &*other.slot) {
            (Slot::Nothing, Slot::Nothing) => true,
            (Slot::Initializer(a), Slot::Initializer(b)) => a.same(b),
            (Slot::Value { detached: a, .. }, Slot::Value { detached: b, .. }) => tensors::same_bits(a, b),
            _ => false,
        }
    }

    /// The variable in this cell, if it may be written in place: this is the only holder, no open scope tracks it, and
    /// no function is being differentiated on this thread, whose operations may have saved the value. The only place
    /// that decides between in place and a copy.
    fn sole_variable(&self) -> Option<&Tensor> {
        match &*self.slot {
            Slot::Value { tensor, .. }
                if tensor.is_variable()
                    && Arc::strong_count(&self.slot) == 1
                    && !self.is_tracked()
                    && !producers::is_recording() =>
            {
                Some(tensor)
            }
            _ => None,
        }
    }

    /// Whether a write in place changes nothing but this leaf.
    pub(crate) fn is_sole(&self) -> bool {
        self.sole_variable().is_some()
    }

    /// Copy on write: afterwards this is the only holder of its cell, which holds the returned variable, and no
    /// open scope tracks it.
    pub(crate) fn make_mut_var(&mut self, kind: KindTag) -> Result<Var> {
        Ok(Var::from_tensor(self.make_mut(kind)?)?)
    }

    /// [`make_mut_var`](Self::make_mut_var) that borrows the variable.
    pub(crate) fn make_mut(&mut self, kind: KindTag) -> Result<&Tensor> {
        if self.sole_variable().is_none() {
            self.replace(Self::variable(&self.get(kind)?)?);
        }
        self.variable_or_traced(kind)
    }

    /// The variable by which this leaf is tracked, if it is, otherwise one of its own.
    pub(crate) fn var(&mut self, kind: KindTag) -> Result<Var> {
        match &*self.slot {
            Slot::Value { tensor, .. } if tensor.is_variable() && self.is_tracked() => {
                Ok(Var::from_tensor(tensor)?)
            }
            _ => self.make_mut_var(kind),
        }
    }

    /// Writes `tensor`: in place if this is the only holder of the cell and shape and type match, otherwise into a
    /// new cell. No other tree changes. Optimizers write parameters this way.
    ///
    /// # Errors
    /// If Candle cannot copy.
    pub fn write(&mut self, tensor: &Tensor) -> Result<()> {
        match self.sole_variable() {
            Some(var) if tensors::alike(var, tensor) && !tensors::same_storage(var, tensor) => {
                Var::from_tensor(var)?.set(tensor)?
            }
            _ => self.replace(Self::variable(tensor)?),
        }
        Ok(())
    }

    /// The variable by which `scope` differentiates this leaf: the cell's own, or a copy if an open scope or another leaf of
    /// the same tree already uses that one. Inside of another differentiated function always a copy: what an earlier inner
    /// function returned may still depend on the cell's own.
    pub(crate) fn var_of_its_own(&mut self, kind: KindTag, scope: &Scope) -> Result<Var> {
        if let Slot::Value { tensor, .. } = &*self.slot
            && tensor.is_variable()
            && !producers::is_recording()
            && scope.claim(tensor.id())
        {
            return Ok(Var::from_tensor(tensor)?);
        }
        let var = copied(&self.get(kind)?)?;
        scope.claim(var.id());
        self.replace(Self::from_shared(var.as_tensor().clone()));
        Ok(var)
    }

    /// The tensor in this cell, if a scope tracks or tracked it.
    pub(crate) fn scoped_value(&self) -> Option<&Tensor> {
        match &*self.slot {
            Slot::Value { tensor, .. } if self.scope().is_some() => Some(tensor),
            _ => None,
        }
    }

    /// Frees the graph that a traced value holds.
    pub(crate) fn release_graph(&mut self) {
        self.set_scope(None);
        if let Slot::Value { tensor, detached, .. } = &*self.slot
            && tensor.track_op()
            && !tensor.is_variable()
        {
            let released = Self::from_shared(detached.clone());
            self.replace(released);
        }
    }

    /// Moves the value to `device`.
    pub(crate) fn move_to(&mut self, device: &Device) -> Result<()> {
        match self.tracked_value() {
            Some(value) if !value.device().same_device(device) => {
                let moved = Self::from_copy(&transfer(value, device, "move trees outside of the step")?)?;
                self.replace(moved);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A variable with the values of `tensor`, detached.
fn copied(tensor: &Tensor) -> Result<Var> {
    Var::from_tensor(&tensor.detach()).map_err(|error| Error::from(error).copying(tensor))
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.slot {
            Slot::Nothing => f.write_str("Nothing"),
            Slot::Initializer(initializer) => fmt::Debug::fmt(initializer, f),
            Slot::Value { detached, .. } => tensors::fmt_array(detached, f),
        }
    }
}
