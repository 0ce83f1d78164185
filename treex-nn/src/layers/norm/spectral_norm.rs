//! Spectral normalization.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use treex_core::transfers::transfer;
use treex_core::{BatchStat, Error, Leaf, Mode, ModuleKey, Result, Tree, TreeObject, matmul};

use super::reparametrized::{parameters, reparametrization, reparametrized, with_parameters};
use crate::dtype::{common_dtype, wide_dtype};

/// A layer with kernels of spectral norm 1: it computes with `kernel / σ`, where `σ` is the largest singular
/// value of the kernel as a matrix `[.., last]`: Flax's `SpectralNorm` (Miyato et al., 2018).
///
/// `σ` is estimated by power iteration from the singular vector `u` of the last call. In training, `u` and
/// `σ` are kept for the next call (Flax's `update_stats`). As in Flax, `init` calls the layer once: it stores the
/// normalized kernel, and in training, as by Flax's `init` with `update_stats=True`, the `u` and `σ` of that call. Of a
/// model that is in eval before `init`, as with `update_stats=False`, `u` stays random and `σ` 1; `train` and `eval`
/// after `init` change nothing of this. Leaves are named as in a Flax module that makes both layers in its `setup`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Linear, SpectralNorm, prelude::*};
///
/// let mut layer = SpectralNorm::new(Linear::new(3, 4)).init(42, &Device::Cpu)?;
/// assert_eq!(layer.layer_instance.kernel.get()?.dims(), [3, 4]);
/// assert_eq!(layer.stats["layer_instance/kernel/u"].get()?.dims(), [1, 4]);
/// assert_eq!(layer.stats["layer_instance/kernel/sigma"].get()?.rank(), 0);
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.call(&x)?.dims(), [2, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpectralNorm<M> {
    /// The layer whose parameters of two or more dimensions are normalized.
    pub layer_instance: M,
    /// Keyed by Flax's names, for each of these parameters: `u`, `[1, last]`, initially random, and `sigma`,
    /// a scalar, initially 1; in training, `init` replaces both, see above.
    pub stats: BTreeMap<String, Leaf<BatchStat>>,
    n_steps: usize,
    epsilon: f64,
    error_on_non_matrix: bool,
    param_dtype: DType,
    dtype: Option<DType>,
    mode: Mode,
}

impl<M: TreeObject + Clone> SpectralNorm<M> {
    /// `layer` with normalized kernels.
    #[must_use]
    pub fn new(layer: M) -> Self {
        let norm = Self {
            layer_instance: layer,
            stats: BTreeMap::new(),
            n_steps: 1,
            epsilon: 1e-12,
            error_on_non_matrix: false,
            param_dtype: DType::F32,
            dtype: None,
            mode: Mode::default(),
        };
        norm.declared()
    }

    /// The number of steps of power iteration in a call; default: 1. With 0, nothing is normalized.
    #[must_use]
    pub fn n_steps(self, n_steps: usize) -> Self {
        Self { n_steps, ..self }.declared()
    }

    /// Added to squared lengths; default: 1e-12.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Whether a parameter of more than two dimensions is an error, not a matrix `[.., last]`; default:
    /// false.
    #[must_use]
    pub fn error_on_non_matrix(self, error_on_non_matrix: bool) -> Self {
        Self { error_on_non_matrix, ..self }
    }

    /// The element type of `u` and `sigma`; default: `F32`.
    #[must_use]
    pub fn param_dtype(self, param_dtype: DType) -> Self {
        Self { param_dtype, ..self }.declared()
    }

    /// The element type of the normalized kernels; default: the smallest that holds kernel and `u`.
    #[must_use]
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype: Some(dtype), ..self }
    }

    /// With statistics for each parameter that may be normalized: the rank of a lazy parameter is not known
    /// yet.
    fn declared(mut self) -> Self {
        let stat = || Leaf::uninitialized().with_dtype(self.param_dtype);
        let mut stats = BTreeMap::new();
        for (name, leaf) in parameters(&self.layer_instance).filter(|_| self.n_steps > 0) {
            let (u, sigma) = match leaf.shape().map(|shape| shape.dims()) {
                Some([.., _, last]) => (stat().with_shape((1, *last)), stat().with_shape(())),
                Some(_) => continue,
                None => (stat(), stat().with_shape(())),
            };
            stats.extend([(u_of(&name), u), (sigma_of(&name), sigma)]);
        }
        self.stats = stats;
        self
    }

    /// Initializes the statistics of each parameter that has a value, and stores the normalized parameters in
    /// the layer inside.
    fn module_init(&mut self, key: &mut ModuleKey) -> Result<()> {
        let parameters: BTreeMap<_, _> = parameters(&self.layer_instance)
            .filter_map(|(name, leaf)| Some((name, leaf.value()?.clone())))
            .collect();
        for (name, value) in &parameters {
            let (u, sigma) = (u_of(name), sigma_of(name));
            if value.rank() < 2 {
                self.stats.remove(&u);
                self.stats.remove(&sigma);
            } else if self.stats.get(&u).is_some_and(Leaf::is_uninitialized) {
                let last = value.dims().last().copied().unwrap_or(1);
                let random = key.make_rng().normal((1, last), self.param_dtype)?;
                let instead = "initialize models outside of the step";
                self.stats.insert(u, Leaf::new(transfer(&random, value.device(), instead)?)?);
                self.stats.insert(sigma, Leaf::new(Tensor::ones((), self.param_dtype, value.device())?)?);
            }
        }
        let (normalized, stats) = self.normalized()?;
        self.layer_instance.update(&normalized)?;
        self.keep(stats);
        Ok(())
    }

    /// The layer inside with its normalized parameters alone, and the new statistics.
    fn normalized(&self) -> Result<(M, BTreeMap<String, Leaf<BatchStat>>)> {
        let mut stats = BTreeMap::new();
        let is_normalized = |name: &str| self.stats.contains_key(&u_of(name));
        let normalized = reparametrized(&self.layer_instance, is_normalized, |name, value| {
            let (Some(u), Some((last, rows))) = (self.stats.get(&u_of(name)), value.dims().split_last())
            else {
                return Ok(value.clone());
            };
            if self.error_on_non_matrix && rows.len() > 1 {
                return Err(Error::shape("`SpectralNorm` got a parameter that is not a matrix")
                    .expected("two dimensions")
                    .found(format!("`{name}` of shape {:?}", value.dims()))
                    .remedy("leave out `error_on_non_matrix`"));
            }
            let stored = u.infer((1, *last))?;
            let output = common_dtype(self.dtype, [value, &stored]);
            let dtype = wide_dtype(output);
            let matrix = value.to_dtype(dtype)?.reshape((rows.iter().product::<usize>(), *last))?;
            let (u, v) = self.power_iteration(&matrix.detach(), stored.to_dtype(dtype)?)?;
            let sigma = matmul(&matmul(&v, &matrix)?, &u.t()?)?.reshape(())?;
            let divisor = sigma.ne(0f64)?.where_cond(&sigma, &sigma.ones_like()?)?;
            for (name, stat) in [(u_of(name), u), (sigma_of(name), sigma)] {
                stats.insert(name, Leaf::new(stat.detach().to_dtype(stored.dtype())?)?);
            }
            Ok(matrix.broadcast_div(&divisor)?.reshape(value.shape())?.to_dtype(output)?)
        })?;
        Ok((normalized, stats))
    }

    /// The singular vectors `u` (right) and `v` (left) of the largest singular value, after `n_steps` steps
    /// from `u`.
    fn power_iteration(&self, matrix: &Tensor, mut u: Tensor) -> Result<(Tensor, Tensor)> {
        let unit = |x: Tensor| x.broadcast_mul(&(x.sqr()?.sum_all()? + self.epsilon)?.sqrt()?.recip()?);
        let mut v = u.clone();
        for _ in 0..self.n_steps {
            v = unit(matmul(&u, &matrix.t()?)?)?;
            u = unit(matmul(&v, matrix)?)?;
        }
        Ok((u, v))
    }

    fn keep(&mut self, stats: BTreeMap<String, Leaf<BatchStat>>) {
        if self.mode.is_training() {
            self.stats.extend(stats);
        }
    }

    /// The result of `call` on the layer inside, with normalized parameters.
    ///
    /// # Errors
    /// Any error of `call`; with `error_on_non_matrix`, a kernel that is not a matrix.
    pub fn call_inner<R>(&mut self, call: impl FnOnce(&mut M) -> Result<R>) -> Result<R> {
        let (normalized, stats) = self.normalized().map_err(|error| error.of(self.identity()))?;
        let result = with_parameters(&mut self.layer_instance, &normalized, call)?;
        self.keep(stats);
        Ok(result)
    }
}

reparametrization!(SpectralNorm { stats, mode });

/// Flax's names for the statistics of a parameter.
fn u_of(name: &str) -> String {
    format!("{name}/u")
}

fn sigma_of(name: &str) -> String {
    format!("{name}/sigma")
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{ErrorKind, Parameter, prelude::*};

    use super::*;
    use crate::{BatchNorm, Conv, Linear, Sequential};

    fn input(shape: &[usize]) -> Tensor {
        treex_core::Key::from(0).normal(shape, DType::F32).unwrap()
    }

    #[test]
    fn converges_to_the_largest_singular_value() -> Result<()> {
        let mut layer =
            SpectralNorm::new(Linear::new(2, 2).use_bias(false)).n_steps(50).init(0, &Device::Cpu)?;
        layer.layer_instance.kernel.set(Tensor::new(&[[3f32, 0.], [4., 5.]], &Device::Cpu)?)?;
        let kernel = layer.layer_instance.kernel.clone();
        layer.call(&input(&[1, 2]))?;
        let sigma = layer.stats["layer_instance/kernel/sigma"].get()?.to_scalar::<f32>()?;
        assert!((sigma - 45f32.sqrt()).abs() < 1e-5, "{sigma}");
        assert_eq!(layer.layer_instance.kernel, kernel);
        Ok(())
    }

    #[test]
    fn state_is_written_in_training_only() -> Result<()> {
        let mut layer = SpectralNorm::new(Linear::new(3, 4)).init(0, &Device::Cpu)?;
        let before = layer.stats.clone();
        layer.freeze(BatchStat)?;
        layer.call(&input(&[2, 3]))?;
        assert_eq!(layer.stats, before);
        layer.unfreeze(BatchStat)?;
        layer.call(&input(&[2, 3]))?;
        assert_ne!(layer.stats, before);
        Ok(())
    }

    /// Lazy layers, with state.
    #[test]
    fn wraps_a_model() -> Result<()> {
        let model = Sequential::new().add(Conv::lazy(4, [3])).add(BatchNorm::lazy()).add(Linear::lazy(2));
        let mut model = SpectralNorm::new(model).init_with(0, &input(&[2, 5, 3]))?;
        let names: Vec<_> = model.stats.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "layer_instance/layers_0/kernel/sigma",
                "layer_instance/layers_0/kernel/u",
                "layer_instance/layers_2/kernel/sigma",
                "layer_instance/layers_2/kernel/u"
            ]
        );
        let before = model.filter(BatchStat);
        let (_, grads) = model.value_and_grad(Parameter, |model| {
            Ok(model.call_inner(|inside| inside.call(&input(&[2, 5, 3])))?.sqr()?.sum_all()?)
        })?;
        assert_eq!(grads.count(Parameter), model.count(Parameter));
        // The batch norm inside was updated as well.
        let after = model.filter(BatchStat);
        let changed = before.leaves().into_iter().zip(after.leaves());
        assert_eq!(
            changed.filter(|(a, b)| format!("{a:?}") != format!("{b:?}")).count(),
            after.leaves().len()
        );
        Ok(())
    }

    #[test]
    fn errors() -> Result<()> {
        let x = input(&[2, 5, 3]);
        let mut layer = SpectralNorm::new(Conv::new(3, 4, [3])).error_on_non_matrix(true);
        let error = layer.call(&x).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Uninitialized);
        let error = layer.clone().init(0, &Device::Cpu).unwrap_err().to_string();
        let text = "expected two dimensions, found `layer_instance/kernel` of shape [3, 3, 4]";
        assert!(error.contains(text), "{error}");
        layer = SpectralNorm::new(Conv::new(3, 4, [3])).init(0, &Device::Cpu)?;
        assert!(layer.clone().error_on_non_matrix(true).call(&x).is_err());
        // An error inside leaves the parameters unchanged.
        let before = layer.clone();
        assert!(layer.call(&input(&[2, 5, 4])).is_err());
        assert_eq!(layer.layer_instance.kernel, before.layer_instance.kernel);
        assert_eq!(layer.stats, before.stats);
        Ok(())
    }
}
