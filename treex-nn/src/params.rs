//! What a layer keeps of its parameters' declaration, so that its options can come in any order.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Shape, Tensor};
use treex_core::{Key, Leaf, Parameter, Result};

use crate::initializers::InitFn;

/// An initializer of any type.
#[derive(Clone)]
pub(crate) struct Init(Arc<Function>);

type Function = dyn Fn(&Key, &Shape, DType) -> Result<Tensor> + Send + Sync;

impl Init {
    pub(crate) fn new(init: impl InitFn) -> Self {
        Self(Arc::new(init))
    }
}

/// The initializers of a layer's two parameters, and their element type.
#[derive(Clone)]
pub(crate) struct Params {
    /// Of the kernel, or the scale.
    pub(crate) first: Init,
    pub(crate) bias: Init,
    pub(crate) dtype: DType,
}

impl Params {
    /// Parameters in `F32`.
    pub(crate) fn new(first: impl InitFn, bias: impl InitFn) -> Self {
        Self { first: Init::new(first), bias: Init::new(bias), dtype: DType::F32 }
    }

    /// The first parameter, to be filled by `init`.
    pub(crate) fn first(&self, shape: impl Into<Shape>) -> Leaf<Parameter> {
        self.leaf(&self.first, shape)
    }

    /// The bias, to be filled by `init`.
    pub(crate) fn bias(&self, shape: impl Into<Shape>) -> Leaf<Parameter> {
        self.leaf(&self.bias, shape)
    }

    fn leaf(&self, Init(init): &Init, shape: impl Into<Shape>) -> Leaf<Parameter> {
        let init = Arc::clone(init);
        Leaf::param(move |key: &Key, shape: &Shape, dtype| init(key, shape, dtype), shape, self.dtype)
    }
}

/// Only the element type can be printed.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dtype.as_str())
    }
}
