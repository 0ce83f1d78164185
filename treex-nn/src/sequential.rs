//! Modules one after another.

use candle_core::Tensor;
use treex_core::{Error, Module, Result, TreeObject, record};

use crate::lambda::Lambda;

/// Modules of any type, each called with what the one before gave.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Dropout, Linear, Sequential, prelude::*, relu};
///
/// let model = Sequential::new().add(Linear::new(4, 8)).add_fn(relu).add(Dropout::new(0.1)).add(Linear::new(8, 2));
/// let mut model = model.init(42, &Device::Cpu)?;
/// assert_eq!(model.count(Parameter), 4 * 8 + 8 + 8 * 2 + 2);
///
/// let x = Tensor::ones((3, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(model.call(&x)?.dims(), [3, 2]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default, TreeObject)]
pub struct Sequential {
    /// In the order of their calls.
    pub layers: Vec<Box<dyn Module>>,
}

impl Sequential {
    /// A sequence without a module, which cannot be called yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a module at the end.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "the name in candle-nn; nobody adds sequences up")]
    pub fn add(mut self, module: impl Module + 'static) -> Self {
        self.layers.push(Box::new(module));
        self
    }

    /// Puts a function at the end: an activation, a reshape.
    #[must_use]
    pub fn add_fn(self, f: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        self.add(Lambda::of(f))
    }
}

impl Module for Sequential {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let Some((first, others)) = self.layers.split_first_mut() else {
            return Err(Error::argument("`Sequential` has no layers")
                .expected("at least one")
                .remedy("add one: `Sequential::new().add(Linear::new(din, dout))`")
                .of(self));
        };
        let y = others.iter_mut().try_fold(first.call(x)?, |x, layer| layer.call(&x))?;
        record(self, x, &y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use treex_core::prelude::*;

    use super::*;
    use crate::{Linear, tanh};

    #[test]
    fn clones_are_snapshots() -> Result<()> {
        let mut model = Sequential::new().add(Linear::new(2, 2)).add_fn(tanh).init(0, &Device::Cpu)?;
        let before = model.clone();
        let zeros = model.map(|value| Ok(value.zeros_like()?))?;
        model.update(&zeros)?;
        let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
        assert_eq!(model.call(&x)?.to_vec2::<f32>()?, [[0., 0.]]);
        assert_ne!(before.clone().call(&x)?.to_vec2::<f32>()?, [[0., 0.]]);
        Ok(())
    }

    #[test]
    fn prints_its_layers() {
        let model = Sequential::new().add(Linear::new(2, 2)).add_fn(tanh);
        let text = format!("{model:?}");
        assert_eq!(text, "Sequential { layers: [Linear { kernel: Initializer, bias: Initializer }, tanh] }");
    }

    #[test]
    fn empty() {
        let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu).unwrap();
        let error = Sequential::new().call(&x).unwrap_err().to_string();
        assert!(error.starts_with("`Sequential` has no layers: expected at least one; add one"), "{error}");
    }
}
