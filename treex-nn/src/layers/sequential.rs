//! A sequence of modules.

use candle_core::Tensor;
use treex_core::{Error, Module, Result, TreeObject, record};

use crate::layers::lambda::Lambda;

/// Modules in sequence, each called with the output of the one before.
///
/// Modules of any type, added one by one: Flax's `Sequential`.
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
///
/// Or as a tuple, by [`sequential`]: the type then lists them, and each is accessible.
///
/// ```
/// # use candle_core::Device;
/// use treex_nn::{Lambda, Linear, Sequential, prelude::*, relu, sequential};
///
/// let model: Sequential<(Linear, Lambda, Linear)> = sequential((Linear::new(4, 8), relu, Linear::new(8, 2)));
/// let model = model.init(42, &Device::Cpu)?;
/// assert_eq!(model.layers.2.kernel.get()?.dims(), [8, 2]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Sequential<L = Vec<Box<dyn Module>>> {
    /// In the order of their calls.
    pub layers: L,
}

impl Default for Sequential {
    fn default() -> Self {
        Self { layers: Vec::new() }
    }
}

impl Sequential {
    /// An empty sequence, which cannot be called yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a module.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "the name in candle-nn; sequences have no sum")]
    pub fn add(mut self, module: impl Module + 'static) -> Self {
        self.layers.push(Box::new(module));
        self
    }

    /// Appends a function: an activation, a reshape.
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
                .of(self.identity()));
        };
        let y = others.iter_mut().try_fold(first.call(x)?, |x, layer| layer.call(&x))?;
        record(self, x, &y);
        Ok(y)
    }
}

/// A sequence of the layers of a tuple, up to eight; for more, nest `sequential`. A function becomes a
/// [`Lambda`]; a closure must state its return type, or be a `Lambda`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Conv, Flatten, Linear, gelu, prelude::*, sequential};
///
/// let scaled = |x: &Tensor| -> Result<Tensor> { Ok((x / 255.)?) };
/// let features = sequential((scaled, Conv::new(1, 4, [3, 3]).strides(2), gelu, Flatten));
/// let mut model = sequential((features, Linear::new(4 * 4 * 4, 10))).init(42, &Device::Cpu)?;
///
/// let images = Tensor::ones((2, 8, 8, 1), DType::F32, &Device::Cpu)?;
/// assert_eq!(model.call(&images)?.dims(), [2, 10]);
/// # Ok::<(), Error>(())
/// ```
pub fn sequential<T: IntoLayers<K>, K>(layers: T) -> Sequential<T::Layers> {
    Sequential { layers: layers.into_layers() }
}

/// A tuple for [`sequential`]. `K` marks each part as a module or a function, and is inferred.
pub trait IntoLayers<K> {
    /// The tuple with a module for each part.
    type Layers;

    /// Makes a module of each function.
    fn into_layers(self) -> Self::Layers;
}

/// A module, or a function that becomes one, for [`sequential`]. `K` marks which, and is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a layer of a sequence",
    note = "a layer is a `Module` that can be cloned, or a function `fn(&Tensor) -> Result<Tensor>`"
)]
pub trait IntoModule<K> {
    /// The module.
    type Module: Module + Clone;

    /// The module itself, or the function as one.
    fn into_module(self) -> Self::Module;
}

/// The mark of a module, for [`IntoModule`].
#[derive(Debug)]
pub struct AsModule;

/// The mark of a function, for [`IntoModule`].
#[derive(Debug)]
pub struct AsFunction;

impl<M: Module + Clone> IntoModule<AsModule> for M {
    type Module = M;

    fn into_module(self) -> M {
        self
    }
}

impl<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static> IntoModule<AsFunction> for F {
    type Module = Lambda;

    fn into_module(self) -> Lambda {
        Lambda::of(self)
    }
}

macro_rules! tuple {
    ($($layer:ident $kind:ident $index:tt),+) => {
        impl<$($layer: IntoModule<$kind>, $kind),+> IntoLayers<($($kind,)+)> for ($($layer,)+) {
            type Layers = ($($layer::Module,)+);

            fn into_layers(self) -> Self::Layers {
                ($(self.$index.into_module(),)+)
            }
        }

        impl<$($layer: Module + Clone),+> Module for Sequential<($($layer,)+)> {
            fn call(&mut self, x: &Tensor) -> Result<Tensor> {
                let y = x.clone();
                $(let y = self.layers.$index.call(&y)?;)+
                record(self, x, &y);
                Ok(y)
            }
        }
    };
}

tuple!(A KA 0);
tuple!(A KA 0, B KB 1);
tuple!(A KA 0, B KB 1, C KC 2);
tuple!(A KA 0, B KB 1, C KC 2, D KD 3);
tuple!(A KA 0, B KB 1, C KC 2, D KD 3, E KE 4);
tuple!(A KA 0, B KB 1, C KC 2, D KD 3, E KE 4, F KF 5);
tuple!(A KA 0, B KB 1, C KC 2, D KD 3, E KE 4, F KF 5, G KG 6);
tuple!(A KA 0, B KB 1, C KC 2, D KD 3, E KE 4, F KF 5, G KG 6, H KH 7);

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
    fn a_tuple_equals_a_list() -> Result<()> {
        let list = Sequential::new().add(Linear::new(2, 3)).add_fn(tanh).add(Linear::new(3, 2));
        let tuple = sequential((Linear::new(2, 3), tanh, Linear::new(3, 2)));
        let (mut list, mut tuple) = (list.init(3, &Device::Cpu)?, tuple.init(3, &Device::Cpu)?);
        let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
        assert_eq!(list.call(&x)?.to_vec2::<f32>()?, tuple.call(&x)?.to_vec2::<f32>()?);
        let paths =
            |leaves: Vec<(treex_core::Path, treex_core::KindTag, &treex_core::Handle)>| -> Vec<String> {
                leaves.into_iter().map(|(path, ..)| path.to_string()).collect()
            };
        assert_eq!(paths(list.leaves()), paths(tuple.leaves()));
        assert_eq!(format!("{:?}", tuple.layers.1), "tanh");
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
