//! Adafactor.

use candle_core::DType;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::clip_by_block_rms::{ClipByBlockRms, clip_by_block_rms};
use crate::transform::ema::{Ema, ema};
use crate::transform::scale::{Scale, scale};
use crate::transform::scale_by_factored_rms::{ScaleByFactoredRms, scale_by_factored_rms};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_param_block_rms::{ScaleByParamBlockRms, scale_by_param_block_rms};

/// The type of [`adafactor`].
pub type Adafactor = Chain<(
    ScaleByFactoredRms,
    Option<ClipByBlockRms>,
    ScaleByLearningRate,
    Option<ScaleByParamBlockRms>,
    Option<Ema>,
    AddDecayedWeights,
    Scale,
)>;

/// Adam's denominator in a fraction of the memory, and steps in proportion to the parameters:
///
/// ```text
/// u = g / sqrt(v)                                 v: rows times columns where factored
/// u = u / max(1, rms(u) / clipping_threshold)
/// u = lr * u
/// u = u * max(rms(p), 1e-3)                       multiply_by_parameter_scale
/// u = momentum * u_before + (1 - momentum) * u    if momentum is given
/// p = p - u - weight_decay_rate * p
/// ```
///
/// with `min_dim_size_to_factor = 128`, `decay_rate = 0.8`, `decay_offset = 0`, `multiply_by_parameter_scale
/// = true`, `clipping_threshold = 1`, no momentum, `weight_decay_rate = 0`, `eps = 1e-30` and `factored =
/// true`; see [`scale_by_factored_rms`].
///
/// As in Optax the decay is *not* multiplied by the learning rate, and there is no relative step size: the
/// paper's is the schedule `min(1e-2, 1 / sqrt(t))`, which PyTorch has built in. Optax's learning rate of
/// `None` is 1.
///
/// Shazeer and Stern, [Adafactor: adaptive learning rates with sublinear memory
/// cost](https://arxiv.org/abs/1804.04235), 2018.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adafactor};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adafactor(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "11.55", "9.65", "8.17", "6.98"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adafactor(learning_rate: impl Into<Schedule>) -> Adafactor {
    chain((
        scale_by_factored_rms(),
        Some(clip_by_block_rms(1.)),
        scale_by_learning_rate(learning_rate).flip_sign(false),
        Some(scale_by_param_block_rms()),
        None,
        add_decayed_weights(0.),
        scale(-1.),
    ))
}

options!(Adafactor: 0 ScaleByFactoredRms { min_dim_size_to_factor: usize, decay_rate: f64, factored: bool });

weight_decay_mask!(Adafactor: 5);

impl Adafactor {
    /// The step at which the average of squares restarts.
    #[must_use]
    pub fn decay_offset(mut self, decay_offset: u64) -> Self {
        self.0.0 = self.0.0.step_offset(decay_offset);
        self
    }

    /// Added to the squares.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.0.0 = self.0.0.epsilon(eps);
        self
    }

    /// The largest root mean square of a leaf's update; `None` for no limit.
    #[must_use]
    pub fn clipping_threshold(mut self, clipping_threshold: impl Into<Option<f64>>) -> Self {
        self.0.1 = clipping_threshold.into().map(clip_by_block_rms);
        self
    }

    /// Whether to scale steps by the root mean square of the parameters. Default: true.
    #[must_use]
    pub fn multiply_by_parameter_scale(mut self, multiply_by_parameter_scale: bool) -> Self {
        self.0.3 = multiply_by_parameter_scale.then(scale_by_param_block_rms);
        self
    }

    /// The decay rate of an average of the updates; no average by default.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.0.4 = Some(self.0.4.take().unwrap_or_else(|| ema(0.).debias(false)).decay(momentum));
        self
    }

    /// The element type of the average of the updates; no effect without momentum.
    #[must_use]
    pub fn dtype_momentum(mut self, dtype: impl Into<Option<DType>>) -> Self {
        let average = self.0.4.take().unwrap_or_else(|| ema(0.).debias(false));
        self.0.4 = Some(average.accumulator_dtype(dtype));
        self
    }

    /// The weight decay, not multiplied by the learning rate.
    #[must_use]
    pub fn weight_decay_rate(mut self, weight_decay_rate: impl Into<Schedule>) -> Self {
        self.0.5 = self.0.5.weight_decay(weight_decay_rate);
        self
    }
}
