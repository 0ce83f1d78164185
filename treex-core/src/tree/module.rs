//! Modules: trees with a forward pass.

use candle_core::Tensor;
use dyn_clone::DynClone;

use crate::error::{Error, Result};
use crate::tree::object::TreeObject;

/// A tree that maps a tensor to a tensor.
///
/// State is written only through `&mut self`. A module without state implements [`candle_core::Module`]
/// instead, and is a `Module` by the blanket implementation, so treex composes with Candle's ecosystem. To
/// serve one model from many threads, clone it: that is cheap.
///
/// `Box<dyn Module>` is a module too, and can be cloned.
pub trait Module: TreeObject + DynClone {
    /// The output for `x`.
    ///
    /// # Errors
    /// If the module fails: a leaf without a value, an input of the wrong shape.
    fn call(&mut self, x: &Tensor) -> Result<Tensor>;
}

dyn_clone::clone_trait_object!(Module);

impl<M: candle_core::Module + TreeObject + Clone> Module for M {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        self.forward(x).map_err(|error| Error::from(error).calling(self.identity(), x))
    }
}

impl Module for Box<dyn Module> {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        (**self).call(x)
    }
}
