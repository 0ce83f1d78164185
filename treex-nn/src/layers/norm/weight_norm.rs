//! Weight normalization.

use std::collections::BTreeMap;

use candle_core::DType;
use treex_core::transfers::transfer;
use treex_core::{Initializer, Leaf, ModuleKey, Parameter, Result, Tree, TreeObject};

use super::reparametrized::{parameters, reparametrization, reparametrized, with_parameters};
use crate::axes::{Axes, sizes};
use crate::dtype::{common_dtype, wide_dtype};
use crate::initializers::{InitFn, ones};
use crate::ops::rows::{repeat_to, sum_over};

/// A layer with kernels of learned length: it computes with `kernel / sqrt(Σ kernel² + epsilon) · scale`,
/// where the sum is over all axes but the feature axes: Flax's `WeightNorm` (Salimans and Kingma, 2016).
///
/// As in Flax, `init` stores the normalized kernel. Leaves are named as in a Flax module that makes both
/// layers in its `setup`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Linear, WeightNorm, prelude::*};
///
/// let mut layer = WeightNorm::new(Linear::new(3, 4)).init(42, &Device::Cpu)?;
/// assert_eq!(layer.layer_instance.kernel.get()?.dims(), [3, 4]);
/// assert_eq!(layer.scale["layer_instance/kernel/scale"].get()?.dims(), [4]);
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.call(&x)?.dims(), [2, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct WeightNorm<M> {
    /// The layer whose parameters are normalized.
    pub layer_instance: M,
    /// Keyed by Flax's names, in the sizes of the feature axes; default: ones.
    pub scale: BTreeMap<String, Leaf<Parameter>>,
    feature_axes: Axes,
    variable_filter: Vec<String>,
    epsilon: f64,
    use_scale: bool,
    scale_init: Initializer,
    dtype: Option<DType>,
}

impl<M: TreeObject + Clone> WeightNorm<M> {
    /// `layer` with normalized kernels.
    #[must_use]
    pub fn new(layer: M) -> Self {
        let norm = Self {
            layer_instance: layer,
            scale: BTreeMap::new(),
            feature_axes: (-1).into(),
            variable_filter: vec!["kernel".into()],
            epsilon: 1e-12,
            use_scale: true,
            scale_init: Initializer::param(ones).with_dtype(DType::F32),
            dtype: None,
        };
        norm.declared()
    }

    /// The axes that are not summed over; default: the last. Without any, the whole parameter has one length.
    #[must_use]
    pub fn feature_axes(self, feature_axes: impl Into<Axes>) -> Self {
        Self { feature_axes: feature_axes.into(), ..self }.declared()
    }

    /// The parameters to normalize: those whose name, such as `layer_instance/kernel`, contains one of
    /// `names`; default: `kernel`. With no names, all parameters.
    #[must_use]
    pub fn variable_filter<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        Self { variable_filter: names.into_iter().map(S::into).collect(), ..self }.declared()
    }

    /// Added to the sum of squares; default: 1e-12.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Whether to multiply by a scale; default: true.
    #[must_use]
    pub fn use_scale(self, use_scale: bool) -> Self {
        Self { use_scale, ..self }.declared()
    }

    /// The initializer of the scales.
    #[must_use]
    pub fn scale_init(self, init: impl InitFn) -> Self {
        let dtype = self.scale_init.dtype().unwrap_or(DType::F32);
        Self { scale_init: Initializer::param(init).with_dtype(dtype), ..self }
    }

    /// The element type of the scales; default: `F32`.
    #[must_use]
    pub fn param_dtype(self, dtype: DType) -> Self {
        Self { scale_init: self.scale_init.with_dtype(dtype), ..self }.declared()
    }

    /// The element type of the normalized kernels; default: the smallest that holds kernel and scale.
    #[must_use]
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype: Some(dtype), ..self }
    }

    /// With a scale for each parameter that is normalized.
    fn declared(mut self) -> Self {
        let selected =
            parameters(&self.layer_instance).filter(|(name, _)| self.use_scale && self.selects(name));
        let scales = selected.map(|(name, leaf)| {
            let scale = Leaf::uninitialized().with_dtype(self.scale_init.dtype().unwrap_or(DType::F32));
            let features = leaf.shape().and_then(|shape| features(&self.feature_axes, shape.dims()).ok());
            (scale_of(&name), features.map_or(scale.clone(), |features| scale.with_shape(features)))
        });
        self.scale = scales.collect();
        self
    }

    fn selects(&self, name: &str) -> bool {
        self.variable_filter.is_empty()
            || self.variable_filter.iter().any(|part| name.contains(part.as_str()))
    }

    /// Initializes the scale of each parameter that has a value, and stores the normalized parameters in the
    /// layer inside.
    fn module_init(&mut self, key: &mut ModuleKey) -> Result<()> {
        let parameters =
            parameters(&self.layer_instance).filter_map(|(name, leaf)| Some((name, leaf.value()?)));
        let parameters: BTreeMap<_, _> =
            parameters.map(|(name, value)| (scale_of(&name), value.clone())).collect();
        for (name, scale) in self.scale.iter_mut().filter(|(_, scale)| scale.is_uninitialized()) {
            let Some(value) = parameters.get(name) else { continue };
            let init = self.scale_init.clone().with_shape(features(&self.feature_axes, value.dims())?);
            let drawn = init.call(&key.make_rng())?;
            scale.set(transfer(&drawn, value.device(), "initialize models outside of the step")?)?;
        }
        let normalized = self.normalized()?;
        self.layer_instance.update(&normalized)
    }

    /// The layer inside with its normalized parameters alone.
    fn normalized(&self) -> Result<M> {
        reparametrized(
            &self.layer_instance,
            |name| self.selects(name),
            |name, value| {
                let axes = self.feature_axes.of("WeightNorm", "feature_axes", value.dims())?;
                let others: Vec<usize> = (0..value.rank()).filter(|axis| !axes.contains(axis)).collect();
                let scale = self.scale.get(&scale_of(name));
                let scale = scale.map(|scale| scale.infer(sizes(value.dims(), &axes))).transpose()?;
                let output = common_dtype(self.dtype, [value].into_iter().chain(&scale));
                let dtype = wide_dtype(output);
                let value = value.to_dtype(dtype)?;
                let mut factor = (sum_over(&value.sqr()?, &others)? + self.epsilon)?.sqrt()?.recip()?;
                if let Some(scale) = scale {
                    factor = (&factor * scale.to_dtype(dtype)?.reshape(factor.shape())?)?;
                }
                Ok((&value * repeat_to(&factor, value.dims())?)?.to_dtype(output)?)
            },
        )
    }

    /// The result of `call` on the layer inside, with normalized parameters.
    ///
    /// # Errors
    /// Any error of `call`; a parameter without one of the feature axes.
    pub fn call_inner<R>(&mut self, call: impl FnOnce(&mut M) -> Result<R>) -> Result<R> {
        let normalized = self.normalized().map_err(|error| error.of(self.identity()))?;
        with_parameters(&mut self.layer_instance, &normalized, call)
    }
}

reparametrization!(WeightNorm { scale });

/// The sizes of a parameter on the axes of the features.
fn features(axes: &Axes, dims: &[usize]) -> Result<Vec<usize>> {
    Ok(sizes(dims, &axes.of("WeightNorm", "feature_axes", dims)?))
}

/// Flax's name for the scale of a parameter.
fn scale_of(name: &str) -> String {
    format!("{name}/scale")
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use treex_core::{ErrorKind, prelude::*};

    use super::*;
    use crate::Linear;

    #[test]
    fn parameters_are_restored() -> Result<()> {
        let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
        let mut layer = WeightNorm::new(Linear::new(3, 4)).init(0, &Device::Cpu)?;
        layer.layer_instance.kernel.set(Tensor::ones((3, 4), DType::F32, &Device::Cpu)?)?;
        let before = layer.clone();
        let y = layer.call(&x)?.to_vec2::<f32>()?;
        assert!(y.iter().flatten().all(|y| (y - 3f32.sqrt()).abs() < 1e-6));
        assert!(layer.call(&x.t()?).is_err());
        assert_eq!(layer.layer_instance.kernel, before.layer_instance.kernel);
        Ok(())
    }

    #[test]
    fn errors() -> Result<()> {
        let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
        let layer = WeightNorm::new(Linear::new(3, 4));
        assert_eq!(layer.clone().call(&x).unwrap_err().kind(), ErrorKind::Uninitialized);
        let error = layer.feature_axes(2).init(0, &Device::Cpu).unwrap_err().to_string();
        let text = "`WeightNorm` got a tensor without one of its `feature_axes`";
        assert!(error.starts_with(text) && error.ends_with("expected axis 2, found [3, 4]"), "{error}");
        Ok(())
    }
}
