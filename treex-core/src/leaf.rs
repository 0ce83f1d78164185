//! Leaves: the fields of a model that hold tensors, and the cells in which trees share them.
//!
//! **Law: value semantics.** A clone shares its cells and behaves as a snapshot: writing one tree never
//! changes another, nor another place of the same tree. What makes it true:
//!
//! - a value that enters a cell is copied into storage of its own (a Candle variable), so no two cells
//!   ever share storage, whether it came as a view, a reshape, or straight out of another leaf;
//! - storage is written in place by [`Handle::write`] and through `Handle::make_unique` only, which first make
//!   sure that nobody else holds the cell and that no gradient graph reads it.
//!
//! **Law: tracking.** Whether `get` hands out a tracked tensor is decided by the handle's scope, never by
//! the cell: a tree that shares cells with one that is being differentiated is not tracked.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

use candle_core::{DType, Device, Shape, Tensor, TensorId, Var};

use crate::compute::ids::IdSet;
use crate::error::{Error, ErrorKind, Result, Whose};
use crate::infer;
use crate::initializer::Initializer;
use crate::kind::{Kind, KindTag, Rng};
use crate::linen::{PARAMS, Position};
use crate::random::Key;
use crate::scope::Scope;
use crate::tensors;

/// A field that holds a tensor of kind `K`: an [`Initializer`] at first, then a value, or nothing where
/// a filter took it out.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_core::{Leaf, Parameter};
///
/// let mut bias = Leaf::<Parameter>::new(Tensor::zeros(4, DType::F32, &Device::Cpu)?)?;
/// let before = bias.clone();
/// bias.set(bias.get()?.affine(1., 1.)?)?;
/// assert_eq!(bias.get()?.to_vec1::<f32>()?, [1.0; 4]);
/// assert_eq!(before.get()?.to_vec1::<f32>()?, [0.0; 4]); // a clone is a snapshot
/// # Ok::<(), treex_core::Error>(())
/// ```
pub struct Leaf<K> {
    pub(crate) handle: Handle,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Leaf<K> {
    /// A leaf with a value, which is copied: the leaf owns its storage.
    ///
    /// Inside of a gradient scope, a tensor that was computed from tracked leaves stays tracked, so a
    /// parameter may be made from others (a low-rank merge, a normalized weight).
    ///
    /// # Errors
    /// If the copy cannot be allocated.
    pub fn new(tensor: impl AsRef<Tensor>) -> Result<Self> {
        Ok(Self::from_handle(Handle::own(tensor.as_ref())?))
    }

    /// A leaf that its module fills as Flax's `self.param(name, init, shape, dtype)` does: the key is
    /// derived from the module's key and a counter over the module's leaves, 1 for the first.
    pub fn param<F>(init: F, shape: impl Into<Shape>, dtype: DType) -> Self
    where
        F: Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync + 'static,
    {
        Initializer::param(init).with_shape(shape).with_dtype(dtype).into()
    }

    /// [`param`](Self::param) whose shape the module [`infer`](Self::infer)s from its first input.
    pub fn unshaped<F>(init: F, dtype: DType) -> Self
    where
        F: Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync + 'static,
    {
        Initializer::param(init).with_dtype(dtype).into()
    }

    /// This leaf, if it waits for `init`, to be filled by another function.
    #[must_use]
    pub fn with_init<F>(self, init: F) -> Self
    where
        F: Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.redeclared(|initializer| initializer.remade(Initializer::param(init)))
    }

    /// This leaf, if it waits for `init`, with another shape.
    #[must_use]
    pub fn with_shape(self, shape: impl Into<Shape>) -> Self {
        self.redeclared(|initializer| initializer.with_shape(shape))
    }

    /// This leaf, if it waits for `init`, with another element type.
    #[must_use]
    pub fn with_dtype(self, dtype: DType) -> Self {
        self.redeclared(|initializer| initializer.with_dtype(dtype))
    }

    fn redeclared(mut self, change: impl FnOnce(Initializer) -> Initializer) -> Self {
        self.handle.redeclare(change);
        self
    }

    /// A leaf that its module's `module_init` fills, from other fields say.
    #[must_use]
    pub fn uninitialized() -> Self {
        Initializer::never().into()
    }

    /// A leaf that was filtered out.
    #[must_use]
    pub fn nothing() -> Self {
        Self::from_handle(Handle::nothing())
    }

    pub(crate) fn from_handle(handle: Handle) -> Self {
        Self { handle, kind: PhantomData }
    }

    /// The value. Tracked inside of a gradient scope that selected this leaf, detached everywhere else.
    ///
    /// It is a view, valid until the leaf's next write in place (an optimizer's step): copy it to keep it.
    ///
    /// # Errors
    /// If the leaf has no value yet ([`ErrorKind::Uninitialized`]) or was filtered out
    /// ([`ErrorKind::FilteredOut`]).
    pub fn get(&self) -> Result<Tensor> {
        self.handle.get(KindTag::of::<K>())
    }

    /// The value of a leaf that a module may do without, such as a bias: `Leaf::get_optional(&self.bias)?`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_optional(leaf: &Option<Self>) -> Result<Option<Tensor>> {
        leaf.as_ref().map(Self::get).transpose()
    }

    /// The value, of which the input of the module asks that it has this shape. While
    /// [`init_with`](crate::Tree::init_with) calls the model, a leaf of unknown shape learns it here.
    ///
    /// It is not checked that a leaf with a value has the shape.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn infer(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        match infer::learn(&self.handle, shape.into())? {
            Some(zeros) => Ok(zeros),
            None => self.get(),
        }
    }

    /// Writes a value: a detached copy, in a cell of its own. Trees that shared the old cell keep it.
    ///
    /// # Errors
    /// If the copy cannot be allocated.
    pub fn set(&mut self, tensor: impl AsRef<Tensor>) -> Result<()> {
        self.handle = Handle::own(&tensor.as_ref().detach())?;
        Ok(())
    }

    /// Writes `part` over the slices of dimension `dim` from `start` on: in place if nobody else holds the cell,
    /// otherwise into a copy. No other tree changes. What a cache does with the next position.
    ///
    /// # Errors
    /// If there is no value, or `part` does not fit into it.
    pub fn write_slice(&mut self, part: &Tensor, dim: usize, start: usize) -> Result<()> {
        let var = self.handle.make_unique(KindTag::of::<K>())?;
        Ok(var.slice_set(&part.detach().contiguous()?, dim, start)?)
    }

    /// Whether a filter took this leaf out.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.handle.is_nothing()
    }

    /// Whether this leaf waits for `init`.
    #[must_use]
    pub fn is_uninitialized(&self) -> bool {
        self.handle.initializer().is_some()
    }

    /// The shape, of the value or as the initializer announces it.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        self.handle.shape()
    }

    /// The element type, of the value or as the initializer announces it.
    #[must_use]
    pub fn dtype(&self) -> Option<DType> {
        self.handle.dtype()
    }
}

impl Leaf<Rng> {
    /// A random key that `init` fills with the key it hands out: [`stream`](Self::stream) of `"params"`.
    #[must_use]
    pub fn key() -> Self {
        Self::stream(PARAMS)
    }

    /// A random key that `init` fills with the key it hands out, and
    /// [`init_linen`](crate::Tree::init_linen) with its place in the named stream: Flax's
    /// `make_rng("dropout")`.
    #[must_use]
    pub fn stream(name: &str) -> Self {
        Initializer::stream(name).into()
    }

    /// A key to draw with; the leaf moves on to the next. After `init` the first half of a `split` is handed
    /// out and the second is kept; after `init_linen` the counter of the stream goes up.
    ///
    /// # Errors
    /// If the leaf has no value, or its value is not a key.
    pub fn next_key(&mut self) -> Result<Key> {
        let value = self.get()?;
        if let Some(mut position) = Position::from_tensor(&value) {
            let key = position.advance();
            self.set(position.to_tensor()?)?;
            return Ok(key);
        }
        let [used, kept] = Key::from_tensor(&value)?.split2();
        self.set(kept.to_tensor()?)?;
        Ok(used)
    }
}

impl<K: Kind> From<Initializer> for Leaf<K> {
    fn from(initializer: Initializer) -> Self {
        Self::from_handle(Handle::waiting(initializer))
    }
}

impl<K> Clone for Leaf<K> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), kind: PhantomData }
    }
}

/// Equal bit for bit: same shape, element type and values, or both nothing, or the same initializer.
impl<K> PartialEq for Leaf<K> {
    fn eq(&self, other: &Self) -> bool {
        self.handle.same(&other.handle)
    }
}

/// Prints `Initializer`, `Nothing`, the values of a small array, or shape and type of a larger one.
impl<K> fmt::Debug for Leaf<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.handle, f)
    }
}

/// A leaf without its kind: a shared cell, and the scope in which this holder of the cell is tracked.
#[derive(Clone)]
pub struct Handle {
    slot: Arc<Slot>,
    pub(crate) scope: Option<Arc<Scope>>,
}

enum Slot {
    Nothing,
    Initializer(Initializer),
    /// `tensor` is a variable (its storage belongs to this cell alone), or a traced tensor inside of a
    /// scope, or a tensor that is only lent (a gradient) and never written in place.
    /// `storage` is its [`storage_id`](tensors::storage_id), which stays what it is as long as the cell.
    Value {
        tensor: Tensor,
        detached: Tensor,
        storage: usize,
    },
}

static NOTHING: LazyLock<Arc<Slot>> = LazyLock::new(|| Arc::new(Slot::Nothing));

impl Handle {
    fn new(slot: Slot) -> Self {
        Self { slot: Arc::new(slot), scope: None }
    }

    /// A cell that waits for `init`.
    pub(crate) fn waiting(initializer: Initializer) -> Self {
        Self::new(Slot::Initializer(initializer))
    }

    pub(crate) fn nothing() -> Self {
        Self { slot: Arc::clone(&NOTHING), scope: None }
    }

    /// The same cell, untracked.
    pub(crate) fn untracked(&self) -> Self {
        Self { slot: Arc::clone(&self.slot), scope: None }
    }

    /// Copies `tensor` into a cell; tracked if an open scope tracks `tensor`.
    pub(crate) fn own(tensor: &Tensor) -> Result<Self> {
        match Scope::owner_of(tensor) {
            Some(scope) => Ok(Self { scope: Some(scope), ..Self::lend(tensor.force_contiguous()?) }),
            None => Self::variable(tensor),
        }
    }

    /// Copies `tensor` into a variable, detached.
    fn variable(tensor: &Tensor) -> Result<Self> {
        let var = Var::from_tensor(&tensor.detach())?;
        Ok(Self::lend(var.as_tensor().clone()))
    }

    /// A cell around a tensor that others may hold as well.
    pub(crate) fn lend(tensor: Tensor) -> Self {
        let (detached, storage) = (tensor.detach(), tensors::storage_id(&tensor));
        Self::new(Slot::Value { tensor, detached, storage })
    }

    /// This cell, or a copy of it if its tensor is only lent and may be somebody else's.
    pub(crate) fn kept(&self) -> Result<Self> {
        match &*self.slot {
            Slot::Value { tensor, .. } if !tensor.track_op() => Self::variable(tensor),
            _ => Ok(self.clone()),
        }
    }

    pub(crate) fn get(&self, kind: KindTag) -> Result<Tensor> {
        match &*self.slot {
            Slot::Value { detached, .. } if !self.is_tracked() => Ok(detached.clone()),
            _ => self.variable_or_traced(kind).cloned(),
        }
    }

    /// What is in this cell, tracked or not.
    fn variable_or_traced(&self, kind: KindTag) -> Result<&Tensor> {
        match &*self.slot {
            Slot::Value { tensor, .. } => Ok(tensor),
            Slot::Initializer(initializer) => Err(self.uninitialized(kind, initializer)),
            Slot::Nothing => Err(Error::new(
                ErrorKind::FilteredOut,
                format!("a leaf of kind `{kind}` was filtered out"),
            )
            .about(Whose::Leaf(self.address()))
            .remedy("call the whole model: `model.updated(&filtered)?` puts the filtered tree back into it")),
        }
    }

    fn uninitialized(&self, kind: KindTag, initializer: &Initializer) -> Error {
        let shape =
            initializer.shape().map_or_else(String::new, |shape| format!(" and shape {:?}", shape.dims()));
        Error::new(ErrorKind::Uninitialized, format!("a leaf of kind `{kind}`{shape} has no value yet"))
            .about(Whose::Leaf(self.address()))
            .remedy("call `let model = model.init(seed, &device)?` or load a checkpoint first")
    }

    /// The detached value, if there is one. It is a view, valid until the next write in place.
    #[must_use]
    pub fn value(&self) -> Option<&Tensor> {
        match &*self.slot {
            Slot::Value { detached, .. } => Some(detached),
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

    /// By which values are told apart that share memory, if there is a value:
    /// [`storage_id`](crate::compute::storage_id) without a lock.
    #[must_use]
    pub fn storage(&self) -> Option<usize> {
        match &*self.slot {
            Slot::Value { storage, .. } => Some(*storage),
            _ => None,
        }
    }

    /// Changes the initializer, if there is one, in a cell of its own.
    pub(crate) fn redeclare(&mut self, change: impl FnOnce(Initializer) -> Initializer) {
        if let Some(initializer) = self.initializer() {
            *self = Self::new(Slot::Initializer(change(initializer.clone())));
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

    /// The shape, of the value or as the initializer announces it.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        match &*self.slot {
            Slot::Value { detached, .. } => Some(detached.shape()),
            Slot::Initializer(initializer) => initializer.shape(),
            Slot::Nothing => None,
        }
    }

    /// The element type, of the value or as the initializer announces it.
    #[must_use]
    pub fn dtype(&self) -> Option<DType> {
        match &*self.slot {
            Slot::Value { detached, .. } => Some(detached.dtype()),
            Slot::Initializer(initializer) => initializer.dtype(),
            Slot::Nothing => None,
        }
    }

    /// Whether `get` hands out a tracked tensor.
    pub(crate) fn is_tracked(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.is_open())
    }

    /// Whether the cell holds a variable, not a traced or lent tensor.
    pub(crate) fn is_variable(&self) -> bool {
        matches!(&*self.slot, Slot::Value { tensor, .. } if tensor.is_variable())
    }

    /// By which an error finds its path.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// By which two holders of one cell are told from two cells.
    pub(crate) fn cell(&self) -> usize {
        Arc::as_ptr(&self.slot).addr()
    }

    /// Whether both hold the same bits.
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

    /// The variable in this cell, if this is the only holder and no open scope reads it: what may be
    /// written in place.
    fn sole_variable(&self) -> Option<&Tensor> {
        match &*self.slot {
            Slot::Value { tensor, .. }
                if tensor.is_variable() && Arc::strong_count(&self.slot) == 1 && !self.is_tracked() =>
            {
                Some(tensor)
            }
            _ => None,
        }
    }

    /// The one decision between in place and copy: after it, this is the only holder of its cell, which
    /// holds the variable that is returned, and no open scope reads it.
    pub(crate) fn make_unique(&mut self, kind: KindTag) -> Result<Var> {
        Ok(Var::from_tensor(self.unique(kind)?)?)
    }

    /// [`make_unique`](Self::make_unique), for who borrows the variable.
    pub(crate) fn unique(&mut self, kind: KindTag) -> Result<&Tensor> {
        if self.sole_variable().is_none() {
            *self = Self::variable(&self.get(kind)?)?;
        }
        self.variable_or_traced(kind)
    }

    /// The variable that differentiates this leaf where it is tracked already, otherwise one of its own.
    pub(crate) fn var(&mut self, kind: KindTag) -> Result<Var> {
        match &*self.slot {
            Slot::Value { tensor, .. } if tensor.is_variable() && self.is_tracked() => {
                Ok(Var::from_tensor(tensor)?)
            }
            _ => self.make_unique(kind),
        }
    }

    /// Writes `tensor`, in place if nobody else holds the cell and it fits, otherwise into a new cell: what an
    /// optimizer does with a parameter. No other tree changes.
    ///
    /// # Errors
    /// If Candle cannot copy.
    pub fn write(&mut self, tensor: &Tensor) -> Result<()> {
        match self.sole_variable() {
            Some(var) if tensors::alike(var, tensor) && !tensors::same_storage(var, tensor) => {
                Var::from_tensor(var)?.set(tensor)?
            }
            _ => *self = Self::variable(tensor)?,
        }
        Ok(())
    }

    /// The variable to differentiate this leaf by: the cell's own, unless somebody is differentiated by that
    /// already (an outer scope, another leaf of the same tree, told by `taken`); then a copy.
    pub(crate) fn var_of_its_own(&mut self, kind: KindTag, taken: &mut IdSet<TensorId>) -> Result<Var> {
        if let Slot::Value { tensor, .. } = &*self.slot
            && tensor.is_variable()
            && !Scope::tracks(tensor.id())
            && taken.insert(tensor.id())
        {
            return Ok(Var::from_tensor(tensor)?);
        }
        let var = Var::from_tensor(&self.get(kind)?.detach())?;
        taken.insert(var.id());
        *self = Self::lend(var.as_tensor().clone());
        Ok(var)
    }

    /// Lets go of the graph that a traced value holds.
    pub(crate) fn settle(&mut self) {
        self.scope = None;
        if let Slot::Value { tensor, detached, .. } = &*self.slot
            && tensor.track_op()
            && !tensor.is_variable()
        {
            *self = Self::lend(detached.clone());
        }
    }

    /// Moves the value to `device`.
    pub(crate) fn move_to(&mut self, device: &Device) -> Result<()> {
        match self.value() {
            Some(value) if !value.device().same_device(device) => {
                *self = Self::variable(&value.to_device(device)?)?
            }
            _ => {}
        }
        Ok(())
    }
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
