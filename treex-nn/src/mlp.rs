//! A multilayer perceptron.

use candle_core::{DType, Tensor};
use treex_core::{Error, Result, TreeObject, record};

use crate::activations::relu;
use crate::initializers::InitFn;
use crate::lambda::Lambda;
use crate::linear::Linear;

/// Linear layers with an activation between them, and none after the last.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Mlp, prelude::*, tanh};
///
/// let mut mlp = Mlp::new([1, 12, 8, 1]).activation(tanh).init(42, &Device::Cpu)?;
/// assert_eq!(mlp.layers[0].kernel.get()?.dims(), [1, 12]);
///
/// let x = Tensor::ones((100, 1), DType::F32, &Device::Cpu)?;
/// assert_eq!(mlp.call(&x)?.dims(), [100, 1]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Mlp {
    /// One less than there are numbers of features.
    pub layers: Vec<Linear>,
    #[tree(skip)]
    activation: Lambda,
}

impl Mlp {
    /// A layer between each two neighbours of `features`, the first of which is the input's.
    #[must_use]
    pub fn new(features: impl AsRef<[usize]>) -> Self {
        let layers = features.as_ref().windows(2).map(|pair| Linear::new(pair[0], pair[1]));
        Self { layers: layers.collect(), activation: Lambda::of(relu) }
    }

    /// A layer to each of `features`, the first from as many as the first input has, see
    /// [`init_with`](treex_core::Tree::init_with).
    #[must_use]
    pub fn features(features: impl AsRef<[usize]>) -> Self {
        let features = features.as_ref();
        let first = features.first().map(|&features| Linear::features(features));
        let Self { layers, activation } = Self::new(features);
        Self { layers: first.into_iter().chain(layers).collect(), activation }
    }

    /// What stands between the layers; [`relu`] unless said.
    #[must_use]
    pub fn activation(self, f: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self { activation: Lambda::of(f), ..self }
    }

    /// Whether the layers add a bias; true unless said.
    #[must_use]
    pub fn use_bias(self, use_bias: bool) -> Self {
        self.each(|layer| layer.use_bias(use_bias))
    }

    /// How to make the kernels.
    #[must_use]
    pub fn kernel_init(self, init: impl InitFn) -> Self {
        self.each(|layer| layer.kernel_init(init.clone()))
    }

    /// How to make the biases.
    #[must_use]
    pub fn bias_init(self, init: impl InitFn) -> Self {
        self.each(|layer| layer.bias_init(init.clone()))
    }

    /// The element type of the parameters; `F32` unless said.
    #[must_use]
    pub fn param_dtype(self, dtype: DType) -> Self {
        self.each(|layer| layer.param_dtype(dtype))
    }

    /// The element type to compute in; unless said, the smallest that holds the input and the parameters.
    #[must_use]
    pub fn dtype(self, dtype: DType) -> Self {
        self.each(|layer| layer.dtype(dtype))
    }

    fn each(self, f: impl Fn(Linear) -> Linear) -> Self {
        Self { layers: self.layers.into_iter().map(f).collect(), ..self }
    }
}

impl candle_core::Module for Mlp {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let Some((last, inner)) = self.layers.split_last() else {
            return Err(Error::argument("`Mlp` has no layers")
                .expected("at least two numbers of features")
                .remedy("write `Mlp::new([inputs, .., outputs])`")
                .of(self.identity())
                .into());
        };
        let hidden =
            inner.iter().try_fold(x.clone(), |x, layer| self.activation.forward(&layer.forward(&x)?))?;
        let y = last.forward(&hidden)?;
        record(self, x, &y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::prelude::*;

    use super::*;
    use crate::initializers::ones;

    #[test]
    fn options_reach_every_layer() -> Result<()> {
        let mlp = Mlp::new([3, 2, 2]).kernel_init(ones).use_bias(false).param_dtype(DType::F64);
        let mut mlp = mlp.activation(|x| Ok((x * 2.)?)).init(0, &Device::Cpu)?;
        let y = mlp.call(&Tensor::ones((1, 3), DType::F64, &Device::Cpu)?)?;
        assert_eq!(y.to_vec2::<f64>()?, [[12., 12.]]);
        Ok(())
    }

    #[test]
    fn too_few_features() {
        let x = Tensor::ones((1, 3), DType::F32, &Device::Cpu).unwrap();
        for mut mlp in [Mlp::new([]), Mlp::new([3])] {
            let error = mlp.call(&x).unwrap_err().to_string();
            assert!(
                error.starts_with("`Mlp` has no layers: expected at least two numbers of features"),
                "{error}"
            );
        }
    }
}
