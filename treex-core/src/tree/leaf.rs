//! Leaves: the fields of a model that hold tensors.

use std::fmt;
use std::marker::PhantomData;

use candle_core::{DType, Shape, Tensor};

use super::handle::Handle;
use super::kind::{Kind, KindTag, Rng, State};
use crate::error::{Error, ErrorKind, Result, Subject};
use crate::init::initializer::Initializer;
use crate::init::shape_probe;
use crate::random::Key;
use crate::random::stream::{PARAMS, RngStream};
use crate::transform::scope::Scope;

/// A field that holds a tensor of kind `K`: an [`Initializer`] at first, then a value; `Nothing` if filtered
/// out.
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
    /// A leaf that holds a copy of `tensor`, in storage of its own.
    ///
    /// Inside a gradient scope, a tensor computed from tracked leaves stays tracked, so a parameter may be
    /// computed from others (a low-rank merge, a normalized weight).
    ///
    /// # Errors
    /// If the copy cannot be allocated.
    pub fn new(tensor: impl AsRef<Tensor>) -> Result<Self> {
        Ok(Self::from_handle(Handle::from_copy(tensor.as_ref())?))
    }

    /// A leaf that its module initializes like Flax's `self.param(name, init, shape, dtype)`: the key is
    /// derived from the module's key and a counter over the module's leaves, which starts at 1.
    pub fn param<F>(init: F, shape: impl Into<Shape>, dtype: DType) -> Self
    where
        F: Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync + 'static,
    {
        Initializer::param(init).with_shape(shape).with_dtype(dtype).into()
    }

    /// [`param`](Self::param) whose shape is [`infer`](Self::infer)red from the module's first input.
    pub fn unshaped<F>(init: F, dtype: DType) -> Self
    where
        F: Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync + 'static,
    {
        Initializer::param(init).with_dtype(dtype).into()
    }

    /// Sets the initializer, if this leaf is uninitialized.
    #[must_use]
    pub fn with_init<F>(self, init: F) -> Self
    where
        F: Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.map_initializer(|initializer| initializer.remade(Initializer::param(init)))
    }

    /// Sets the shape, if this leaf is uninitialized.
    #[must_use]
    pub fn with_shape(self, shape: impl Into<Shape>) -> Self {
        self.map_initializer(|initializer| initializer.with_shape(shape))
    }

    /// Sets the element type, if this leaf is uninitialized.
    #[must_use]
    pub fn with_dtype(self, dtype: DType) -> Self {
        self.map_initializer(|initializer| initializer.with_dtype(dtype))
    }

    fn map_initializer(mut self, change: impl FnOnce(Initializer) -> Initializer) -> Self {
        self.handle.map_initializer(change);
        self
    }

    /// A leaf that its module's `module_init` sets, for instance from other fields.
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

    /// The value: tracked inside a gradient scope that selected this leaf, detached everywhere else.
    ///
    /// It is a view, valid until the leaf's next write in place (an optimizer's step, on another thread too): copy it to keep
    /// it.
    ///
    /// # Errors
    /// If the leaf has no value yet ([`ErrorKind::Uninitialized`]) or was filtered out
    /// ([`ErrorKind::FilteredOut`]).
    pub fn get(&self) -> Result<Tensor> {
        self.handle.get(KindTag::of::<K>())
    }

    /// The value of an optional leaf, such as a bias: `Leaf::get_optional(&self.bias)?`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_optional(leaf: &Option<Self>) -> Result<Option<Tensor>> {
        leaf.as_ref().map(Self::get).transpose()
    }

    /// Returns the value; during shape inference ([`init_with`](crate::Tree::init_with)), records `shape` for a leaf
    /// whose shape is unknown and returns zeros of it.
    ///
    /// A value may have other sizes, which its layer checks, but not more dimensions: a layer of a
    /// [`stack`](crate::Tree::stack)ed tree never broadcasts over the slices.
    ///
    /// # Errors
    /// If the value has more dimensions than `shape`; as [`get`](Self::get) otherwise.
    pub fn infer(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        if let Some(initializer) = self.handle.initializer()
            && let (None, Some(dtype)) = (initializer.shape(), initializer.dtype())
            && let Some(zeros) = shape_probe::record(self.handle.cell(), shape.clone(), dtype)?
        {
            return Ok(zeros);
        }
        let value = self.get()?;
        if value.rank() <= shape.rank() {
            return Ok(value);
        }
        let message =
            format!("a leaf of kind `{}` has more dimensions than its layer needs", KindTag::of::<K>());
        Err(Error::shape(message)
            .about(Subject::Leaf(self.handle.address()))
            .expected(format!("{:?}", shape.dims()))
            .found(format!("{:?}", value.dims()))
            .remedy("a stacked tree is called slice by slice: `vmap(&mut tree, |_, slice| slice.call(&x))?`"))
    }

    /// Writes a value: a detached copy, in a cell of its own. Trees that shared the old cell keep it.
    ///
    /// # Errors
    /// If the copy cannot be allocated, or the leaf is frozen ([`ErrorKind::Frozen`]) and of a kind under `State`. If the
    /// leaf is of a kind that is differentiated, and `tensor` depends on leaves by which a function is being
    /// differentiated: the copy would cut its gradient ([`ErrorKind::Gradient`]).
    pub fn set(&mut self, tensor: impl AsRef<Tensor>) -> Result<()> {
        self.check_writable()?;
        self.check_cuts_nothing(tensor.as_ref())?;
        self.handle.replace(Handle::from_copy(&tensor.as_ref().detach())?);
        Ok(())
    }

    fn check_cuts_nothing(&self, tensor: &Tensor) -> Result<()> {
        let kind = KindTag::of::<K>();
        if !kind.is_differentiable() || Scope::owner_of(tensor).is_none() {
            return Ok(());
        }
        let message =
            format!("a value with a gradient is written to a leaf of kind `{kind}`, which would cut it");
        Err(Error::new(ErrorKind::Gradient, message).about(Subject::Leaf(self.handle.address())).remedy(
            "to compute a leaf from others, write `model.leaf = Leaf::new(tensor)?`, `map` or `zip_map`; for a constant, \
             `leaf.set(stop_gradient(&tensor))?`",
        ))
    }

    /// Frozen state cannot be written, except by an initializer; a frozen parameter can still be set by hand.
    fn check_writable(&self) -> Result<()> {
        let kind = KindTag::of::<K>();
        if !self.is_frozen() || self.is_uninitialized() || !kind.is(KindTag::of::<State>()) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Frozen, format!("a frozen leaf of kind `{kind}` cannot be written"))
            .about(Subject::Leaf(self.handle.address()))
            .remedy("write it only where `self.mode.is_training()`, or call `model.unfreeze(filter)?`"))
    }

    /// Writes `part` over the slices of dimension `dim` from `start` on: in place if this is the only holder of
    /// the cell and nothing is being differentiated on this thread, otherwise into a copy. No other tree changes. A
    /// cache appends a position this way.
    ///
    /// # Errors
    /// If there is no value, or `part` does not fit; as [`set`](Self::set) otherwise.
    pub fn write_slice(&mut self, part: &Tensor, dim: usize, start: usize) -> Result<()> {
        self.check_writable()?;
        self.check_cuts_nothing(part)?;
        let size = self.shape().and_then(|shape| shape.dims().get(dim)).copied().unwrap_or(0);
        let end = part.dims().get(dim).and_then(|len| start.checked_add(*len));
        if end.is_none_or(|end| end > size) {
            return Err(Error::shape("the slices to write are out of range")
                .about(Subject::Leaf(self.handle.address()))
                .expected(format!("at most {size} slices of dimension {dim}"))
                .found(format!("slices of shape {:?} from {start} on", part.dims())));
        }
        let var = self.handle.make_mut_var(KindTag::of::<K>())?;
        Ok(var.slice_set(&part.detach().contiguous()?, dim, start)?)
    }

    /// Whether this leaf was filtered out.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.handle.is_nothing()
    }

    /// Whether [`freeze`](crate::Tree::freeze) excluded this leaf from training.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.handle.is_frozen()
    }

    /// Whether this leaf has no value yet.
    #[must_use]
    pub fn is_uninitialized(&self) -> bool {
        self.handle.initializer().is_some()
    }

    /// The shape of the value, or that declared by the initializer.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        self.handle.shape()
    }

    /// The element type of the value, or that declared by the initializer.
    #[must_use]
    pub fn dtype(&self) -> Option<DType> {
        self.handle.dtype()
    }
}

impl Leaf<Rng> {
    /// A random key in the `"params"` stream; see [`stream`](Self::stream).
    #[must_use]
    pub fn key() -> Self {
        Self::stream(PARAMS)
    }

    /// A random key. `init` fills it with a key of its own, [`init_linen`](crate::Tree::init_linen) with one of the
    /// named stream: Flax's `make_rng("dropout")`.
    #[must_use]
    pub fn stream(name: &str) -> Self {
        Initializer::stream(name).into()
    }

    /// Returns a key to draw with and advances the leaf. After `init`, the first half of a `split` is returned
    /// and the second is kept; after `init_linen`, the counter of the stream is incremented.
    ///
    /// # Errors
    /// If the leaf has no value, or its value is not a key.
    pub fn next_key(&mut self) -> Result<Key> {
        let value = self.get()?;
        if let Some(mut position) = RngStream::from_tensor(&value) {
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
        Self::from_handle(Handle::uninitialized(initializer))
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

/// Prints `Initializer`, `Nothing`, the values of a small array, or the shape and type of a larger one.
impl<K> fmt::Debug for Leaf<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.handle, f)
    }
}
