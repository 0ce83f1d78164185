//! AdamW.

use candle_core::DType;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_adam::{ScaleByAdam, scale_by_adam};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`adamw`].
pub type AdamW = Chain<(ScaleByAdam, AddDecayedWeights, ScaleByLearningRate)>;

/// Adam with decoupled weight decay:
///
/// ```text
/// u = (mu / (1 - b1^t)) / (sqrt(nu / (1 - b2^t) + eps_root) + eps)        as in Adam
/// p = p - lr * (u + weight_decay * p)
/// ```
///
/// with Adam's defaults and `weight_decay = 1e-4`; PyTorch's default is 1e-2. As in Optax and PyTorch the
/// decay is multiplied by the learning rate; in the paper it is not.
///
/// Loshchilov and Hutter, [Decoupled weight decay regularization](https://arxiv.org/abs/1711.05101), 2017.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adamw};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adamw(0.1).weight_decay(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.56", "11.23", "9.99", "8.86"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adamw(learning_rate: impl Into<Schedule>) -> AdamW {
    chain((scale_by_adam(), add_decayed_weights(1e-4), scale_by_learning_rate(learning_rate)))
}

options!(AdamW:
    0 ScaleByAdam {
        b1: f64, b2: f64, eps: f64, eps_root: f64,
        mu_dtype: impl Into<Option<DType>>, nesterov: bool,
    }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(AdamW: 1);
