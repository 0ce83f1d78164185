//! Lion.

use candle_core::DType;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_lion::{LionMode, ScaleByLion, scale_by_lion};

/// The type of [`lion`].
pub type Lion = Chain<(ScaleByLion, AddDecayedWeights, ScaleByLearningRate)>;

/// Steps of constant size, along the sign of a mixture of gradient and average:
///
/// ```text
/// u  = sign(b1 * mu + (1 - b1) * g)
/// mu = b2 * mu + (1 - b2) * g
/// p  = p - lr * (u + weight_decay * p)
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.99` and `weight_decay = 1e-3`; see [`scale_by_lion`]. Its authors advise a
/// learning rate 3 to 10 times smaller than AdamW's, and as much more decay.
///
/// Chen et al., [Symbolic discovery of optimization algorithms](https://arxiv.org/abs/2302.06675), 2023.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, lion};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(lion(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.71", "10.66", "9.67"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn lion(learning_rate: impl Into<Schedule>) -> Lion {
    chain((scale_by_lion(), add_decayed_weights(1e-3), scale_by_learning_rate(learning_rate)))
}

options!(Lion:
    0 ScaleByLion { b1: f64, b2: f64, mu_dtype: impl Into<Option<DType>>, mode: LionMode, smooth_beta: f64 }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(Lion: 1);
