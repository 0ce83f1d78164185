//! Models as trees for Candle: one plain struct holds parameters, statistics, keys and sub-modules, and the
//! type of a field says which kind of state it is.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use treex_core::{Initializer, Leaf, Parameter, Result, prelude::*};
//!
//! #[derive(Clone, Debug, TreeObject)]
//! struct Linear {
//!     w: Leaf<Parameter>,
//!     b: Leaf<Parameter>,
//! }
//!
//! impl Linear {
//!     fn new(din: usize, dout: usize) -> Result<Self> {
//!         let w = Initializer::new(move |key| key.uniform((din, dout), DType::F32));
//!         Ok(Self { w: w.into(), b: Leaf::new(Tensor::zeros(dout, DType::F32, &Device::Cpu)?)? })
//!     }
//! }
//!
//! impl Module for Linear {
//!     fn call(&mut self, x: &Tensor) -> Result<Tensor> {
//!         Ok(x.matmul(&self.w.get()?)?.broadcast_add(&self.b.get()?)?)
//!     }
//! }
//!
//! let x = Tensor::ones((8, 3), DType::F32, &Device::Cpu)?;
//! let mut model = Linear::new(3, 1)?.init(42, &Device::Cpu)?;
//! let (loss, grads) = model.value_and_grad(Parameter, |model| Ok(model.call(&x)?.sqr()?.mean_all()?))?;
//! model = model.zip_map(&grads, |w, grad| Ok((w - (grad * 0.1)?)?))?;
//! let less = model.call(&x)?.sqr()?.mean_all()?;
//! assert!(less.to_scalar::<f32>()? < loss.to_scalar::<f32>()?);
//! # Ok::<(), treex_core::Error>(())
//! ```
//!
//! The modules, in reading order: [`kind`](mod@kind) (what a leaf is for), [`leaf`] (what holds a tensor, and
//! who may write it), [`object`] (what a tree is), [`tree`] (the verbs), [`filter`], [`init`],
//! [`linen`] and [`random`], [`grad`](mod@grad), [`checkpoint`], [`summary`].

#[cfg(test)]
extern crate self as treex_core; // the name by which the derive finds this crate

pub mod checkpoint;
pub mod compute;
mod containers;
pub mod error;
pub mod filter;
pub mod flat;
pub mod grad;
mod infer;
pub mod init;
pub mod initializer;
pub mod kind;
pub mod leaf;
pub mod linen;
pub mod mode;
pub mod module;
pub mod object;
pub mod path;
pub mod random;
pub mod remat;
mod replay;
pub mod scan;
mod scope;
pub mod stack;
pub mod summary;
mod tensors;
pub mod tree;
mod walk;

pub use candle_core as candle; // its types are part of this API
pub use checkpoint::{Load, Report};
pub use error::{Error, ErrorKind, Result};
pub use filter::{And, Exactly, Filter, LeafMut, LeafRef, Negated, Or, PathGlob, by, exactly, path};
pub use flat::Leaves;
pub use grad::{grad, value_and_grad, value_and_grad_aux};
pub use init::ModuleKey;
pub use initializer::Initializer;
pub use kind::{
    BatchStat, Cache, Intermediate, Kind, KindTag, MetricState, OptState, Parameter, Rng, State, TreePart,
};
pub use leaf::{Handle, Leaf};
pub use linen::Rngs;
pub use mode::Mode;
pub use module::Module;
pub use object::{Edge, ModuleId, TreeObject, Visitor, VisitorMut};
pub use path::{Path, Segment};
pub use random::Key;
pub use remat::remat;
pub use scan::{scan, scan_blocks};
pub use stack::{Stack, vmap};
pub use summary::record;
pub use tree::Tree;
pub use treex_core_derive::TreeObject;

/// The traits whose methods one calls: `use treex_core::prelude::*`.
pub mod prelude {
    pub use crate::{Filter as _, Module, Tree, TreeObject};
}
