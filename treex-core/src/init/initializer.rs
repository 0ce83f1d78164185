//! Initializers: functions of a key that become values when a tree is initialized.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Shape, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::random::Key;

/// A value to come: a function of a [`Key`], with its shape and element type where they are known.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_core::{Initializer, Leaf, Parameter, prelude::*};
///
/// #[derive(Clone, Debug, TreeObject)]
/// struct Linear {
///     w: Leaf<Parameter>,
///     b: Leaf<Parameter>,
/// }
///
/// let (din, dout) = (3, 5);
/// let linear = Linear {
///     w: Initializer::new(move |key| key.uniform((din, dout), DType::F32)).into(),
///     b: Leaf::new(Tensor::zeros(dout, DType::F32, &Device::Cpu)?)?,
/// };
/// assert!(format!("{linear:?}").starts_with("Linear { w: Initializer, b: array([0.0, "));
/// let linear = linear.init(42, &Device::Cpu)?;
/// assert_eq!(linear.w.get()?.dims(), [3, 5]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Initializer {
    make: Make,
    shape: Option<Shape>,
    dtype: Option<DType>,
}

/// What makes the value, and whose key it gets.
#[derive(Clone)]
enum Make {
    /// One of the tree's chain, before any module's turn.
    Tree(Arc<OfKey>),
    /// One derived from its module's key, at the module's turn.
    Module(Arc<OfShape>),
    /// The key itself, or under Flax's derivation the leaf's place in this stream.
    Stream(Arc<str>),
    /// None: its module's `module_init` writes the leaf.
    Never,
}

type OfKey = dyn Fn(&Key) -> Result<Tensor> + Send + Sync;
type OfShape = dyn Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync;

/// When an initializer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitPhase {
    Tree,
    Module,
    Never,
}

impl Initializer {
    /// An initializer that gets a key of its own: `init` runs these first, in field order.
    pub fn new(make: impl Fn(&Key) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self { make: Make::Tree(Arc::new(make)), shape: None, dtype: None }
    }

    /// An initializer of Flax's form, which gets a key derived from its module's; see
    /// [`Leaf::param`](crate::Leaf::param). Shape and element type must be known when it runs.
    pub fn param<F>(make: F) -> Self
    where
        F: Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync + 'static,
    {
        Self { make: Make::Module(Arc::new(make)), shape: None, dtype: None }
    }

    /// See [`Leaf::stream`](crate::Leaf::stream).
    pub(crate) fn stream(name: &str) -> Self {
        Self { make: Make::Stream(name.into()), shape: None, dtype: Some(DType::U32) }
    }

    /// The stream that this draws from, if it is a random leaf's.
    pub(crate) fn stream_name(&self) -> Option<&str> {
        match &self.make {
            Make::Stream(name) => Some(name),
            _ => None,
        }
    }

    /// See [`Leaf::uninitialized`](crate::Leaf::uninitialized).
    pub(crate) fn never() -> Self {
        Self { make: Make::Never, shape: None, dtype: None }
    }

    /// Announces the shape, so that summaries and checkpoints know it before there is a value.
    #[must_use]
    pub fn with_shape(mut self, shape: impl Into<Shape>) -> Self {
        self.shape = Some(shape.into());
        self
    }

    /// Announces the element type.
    #[must_use]
    pub fn with_dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// The same shape and element type, made by `other`.
    pub(crate) fn remade(self, other: Self) -> Self {
        Self { make: other.make, ..self }
    }

    /// The value for `key`.
    ///
    /// # Errors
    /// Whatever the function reports, or that the shape or the element type is not known.
    pub fn call(&self, key: &Key) -> Result<Tensor> {
        let unknown =
            |what| Error::new(ErrorKind::Uninitialized, format!("the {what} of this leaf is not known"));
        match &self.make {
            Make::Tree(make) => make(key),
            Make::Module(make) => {
                let shape = self.shape.as_ref().ok_or_else(|| {
                    unknown("shape")
                        .remedy("give the layer its sizes, or call `model.init_with(seed, &sample)?`")
                })?;
                make(key, shape, self.dtype.ok_or_else(|| unknown("element type"))?)
            }
            Make::Stream(_) => key.to_tensor(),
            Make::Never => Err(unknown("value")),
        }
    }

    /// The shape to come, where known.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        self.shape.as_ref()
    }

    /// The element type to come, where known.
    #[must_use]
    pub fn dtype(&self) -> Option<DType> {
        self.dtype
    }

    pub(crate) fn phase(&self) -> InitPhase {
        match self.make {
            Make::Tree(_) | Make::Stream(_) => InitPhase::Tree,
            Make::Module(_) => InitPhase::Module,
            Make::Never => InitPhase::Never,
        }
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        let made_alike = match (&self.make, &other.make) {
            (Make::Tree(a), Make::Tree(b)) => Arc::ptr_eq(a, b),
            (Make::Module(a), Make::Module(b)) => Arc::ptr_eq(a, b),
            (Make::Stream(a), Make::Stream(b)) => a == b,
            (Make::Never, Make::Never) => true,
            _ => false,
        };
        made_alike && self.shape == other.shape && self.dtype == other.dtype
    }
}

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.phase() == InitPhase::Never { "Uninitialized" } else { "Initializer" })
    }
}
