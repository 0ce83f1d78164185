//! Rematerialization: the backward pass recomputes the module.

use std::slice::from_ref;

use candle_core::Tensor;
use treex_core::ModuleKey;
use treex_core::{Module, ModuleId, Result, TreeObject, Visitor, VisitorMut, remat};

/// A module that saves only its input for the backward pass, and recomputes the rest there: Flax's
/// `nn.remat`, or `nn.checkpoint` (Chen et al., "Training deep nets with sublinear memory cost", 2016).
/// Values, gradients, state and keys are those of the module; see [`remat`](treex_core::remat()).
///
/// The wrapper is transparent in a tree: paths, names and keys are those of the module itself.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Linear, Remat, Sequential, prelude::*, tanh};
///
/// let block = Sequential::new().add(Linear::lazy(64)).add_fn(tanh).add(Linear::lazy(3));
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let mut model = Remat::new(block).init_with(42, &x)?;
/// let (_, grads) = model.value_and_grad(Parameter, |model| {
///     let y = model.call(&x)?;
///     assert_eq!(y.dims(), [2, 3]);
///     Ok(y.sqr()?.mean_all()?)
/// })?;
/// assert_eq!(grads.leaves()[0].0.to_string(), "layers.0.kernel");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Remat<M> {
    /// The module inside.
    pub module: M,
}

impl<M: TreeObject> Remat<M> {
    /// `module`, recomputed in the backward pass.
    #[must_use]
    pub fn new(module: M) -> Self {
        Self { module }
    }
}

impl<M: Module + Clone + 'static> Module for Remat<M> {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let outputs = remat(&mut self.module, from_ref(x), |module, x| Ok(vec![module.call(&x[0])?]))?;
        Ok(outputs[0].clone())
    }
}

treex_core::tree_aux!([M: TreeObject] Remat<M>);

impl<M: TreeObject> TreeObject for Remat<M> {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.module.visit(visitor);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        self.module.visit_mut(visitor);
    }

    fn identity(&self) -> Option<ModuleId> {
        self.module.identity()
    }

    fn initialize_module(&mut self, key: &mut ModuleKey) -> Result<()> {
        self.module.initialize_module(key)
    }
}
