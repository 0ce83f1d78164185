//! Initializers: functions from a key to the value of a leaf.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Shape, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::random::Key;
use crate::size::check_size;

/// A function from a [`Key`] to a value, with its shape and element type if known.
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

/// How the value is made, and from which key.
#[derive(Clone)]
enum Make {
    /// A key of the tree's chain, before any module.
    Tree(Arc<OfKey>),
    /// A key derived from that of its module, with the module.
    Module(Arc<OfShape>),
    /// The value is the key itself; under `init_linen`, the leaf's position in this stream.
    Stream(Arc<str>),
    /// Set by the `module_init` of its module.
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
    /// An initializer that gets its own key; `init` runs these first, in field order.
    pub fn new(make: impl Fn(&Key) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self { make: Make::Tree(Arc::new(make)), shape: None, dtype: None }
    }

    /// An initializer with Flax's signature, which gets a key derived from that of its module; see
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

    /// The stream, if this initializes a random leaf.
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

    /// Declares the shape, so that summaries and checkpoints know it before there is a value.
    #[must_use]
    pub fn with_shape(mut self, shape: impl Into<Shape>) -> Self {
        self.shape = Some(shape.into());
        self
    }

    /// Declares the element type.
    #[must_use]
    pub fn with_dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// The shape and element type of this one, and the function of `other`.
    pub(crate) fn remade(self, other: Self) -> Self {
        Self { make: other.make, ..self }
    }

    /// The value for `key`.
    ///
    /// # Errors
    /// The error of the function; an unknown shape or element type.
    pub fn call(&self, key: &Key) -> Result<Tensor> {
        let unknown =
            |what| Error::new(ErrorKind::Uninitialized, format!("the {what} of this leaf is unknown"));
        match &self.make {
            Make::Tree(make) => make(key),
            Make::Module(make) => {
                let shape = self.shape.as_ref().ok_or_else(|| {
                    unknown("shape")
                        .remedy("give the layer its sizes, or call `model.init_with(seed, &sample)?`")
                })?;
                let dtype = self.dtype.ok_or_else(|| {
                    unknown("element type").remedy("give it with `Initializer::with_dtype`")
                })?;
                check_size(shape, dtype)?;
                make(key, shape, dtype)
            }
            Make::Stream(_) => key.to_tensor(),
            Make::Never => Err(unknown("value")),
        }
    }

    /// The shape of the value, if known.
    #[must_use]
    pub fn shape(&self) -> Option<&Shape> {
        self.shape.as_ref()
    }

    /// The element type of the value, if known.
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
