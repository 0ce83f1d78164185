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
//! The modules, in reading order: [`tree`] (kinds, leaves, filters and the methods of a tree), [`init`] and [`random`]
//! (from a seed to values), [`transform`] (gradients and other function transformations), [`autograd`] (operations with
//! a custom gradient), [`io`] (checkpoints and summaries).

#![deny(unsafe_code)]

#[cfg(test)]
extern crate self as treex_core; // the name by which the derive finds this crate

mod allocator;
pub mod autograd;
pub mod capture;
pub mod constants;
mod deep;
pub mod device;
mod driver_error;
pub mod error;
pub mod extrema;
pub mod id_map;
pub mod indices;
pub mod init;
pub mod io;
pub mod matmul;
mod nearest;
pub mod random;
pub mod size;
pub mod tensor_number;
mod tensors;
pub mod transfers;
pub mod transform;
pub mod tree;

pub use allocator::keep_memory;
pub use autograd::enable_nested_gradients;
pub use candle_core as candle; // its types are part of this API
pub use capture::{Captured, Held, Tensors, Trees, capture};
#[cfg(feature = "cuda")]
pub use device::cuda;
pub use device::cuda_device;
pub(crate) use device::enter_device;
pub use error::{Error, ErrorKind, Result};
pub use init::initializer::Initializer;
pub use init::module_key::ModuleKey;
pub use io::checkpoint::{Load, Report, Save, checkpoint_metadata};
pub use io::summary::record;
pub use matmul::matmul;
pub use nearest::nearest_paths;
pub use random::Key;
pub use random::stream::Rngs;
pub use transfers::no_transfers;
#[doc(hidden)]
pub use transform::auxiliary::detach_tree;
pub use transform::auxiliary::{Aux, stop_gradient};
pub use transform::check_gradients::check_gradients;
pub use transform::grad::{grad, value_and_grad, value_and_grad_aux};
pub use transform::hessian::{Hessian, hessian, hvp};
pub use transform::jvp::jvp;
pub use transform::mixed_precision::MixedPrecision;
pub use transform::per_example::per_example_grads;
pub use transform::remat::remat;
pub use transform::scan::{scan, scan_blocks};
pub use transform::stack::{Stack, vmap};
pub use transform::unreached::unreached;
pub use transform::vjp::{Pullback, jacobian, vjp};
pub use tree::filter::{And, Exactly, Filter, LeafMut, LeafRef, Negated, Or, PathGlob, by, exactly, path};
pub use tree::flat::Leaves;
pub use tree::handle::Handle;
pub use tree::kind::{
    BatchStat, Cache, Intermediate, Kind, KindTag, MetricState, OptState, Parameter, Rng, State, TreePart,
};
pub use tree::leaf::Leaf;
pub use tree::map_key::MapKey;
pub use tree::mode::Mode;
pub use tree::module::Module;
pub use tree::object::{ChildInfo, TreeObject, Visitor, VisitorMut};
pub use tree::path::{ModuleId, Path, Segment};
pub use tree::verbs::Tree;
pub use treex_core_derive::{Aux, TreeObject};

/// The traits whose methods programs call: `use treex_core::prelude::*`.
pub mod prelude {
    pub use crate::{Filter as _, Module, Tree, TreeObject};
}
