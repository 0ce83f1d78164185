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
    run: Arc<Run>,
    shape: Option<Shape>,
    dtype: Option<DType>,
    turn: Turn,
}

/// What makes the value.
type Run = dyn Fn(&Key) -> Result<Tensor> + Send + Sync;

/// Whose key an initializer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// One of the tree's chain, before any module's turn.
    Tree,
    /// One derived from its module's key, at the module's turn.
    Module,
    /// None: its module's `module_init` writes the leaf.
    Never,
}

impl Initializer {
    /// An initializer that gets a key of its own: `init` runs these first, in field order.
    pub fn new(run: impl Fn(&Key) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self { run: Arc::new(run), shape: None, dtype: None, turn: Turn::Tree }
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

    /// See [`Leaf::param`](crate::Leaf::param).
    pub(crate) fn param<F>(init: F, shape: impl Into<Shape>, dtype: DType) -> Self
    where
        F: Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync + 'static,
    {
        let shape = shape.into();
        let announced = shape.clone();
        let run = move |key: &Key| init(key, &announced, dtype);
        Self { turn: Turn::Module, ..Self::new(run).with_shape(shape).with_dtype(dtype) }
    }

    /// See [`Leaf::uninitialized`](crate::Leaf::uninitialized).
    pub(crate) fn never() -> Self {
        let run = |_: &Key| {
            Err(Error::new(ErrorKind::Uninitialized, "this leaf is filled by its module's `module_init`"))
        };
        Self { turn: Turn::Never, ..Self::new(run) }
    }

    /// The value for `key`.
    ///
    /// # Errors
    /// Whatever the function reports.
    pub fn call(&self, key: &Key) -> Result<Tensor> {
        (self.run)(key)
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

    pub(crate) fn turn(&self) -> Turn {
        self.turn
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.run, &other.run)
    }
}

impl fmt::Debug for Initializer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.turn == Turn::Never { "Uninitialized" } else { "Initializer" })
    }
}
