//! AdaBelief.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_belief::{ScaleByBelief, scale_by_belief};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`adabelief`].
pub type Adabelief = Chain<(ScaleByBelief, AddDecayedWeights, ScaleByLearningRate)>;

/// Adam with the deviation from the average in place of the gradient's square:
///
/// ```text
/// nu = b2 * nu + (1 - b2) * (g - mu)^2 + eps_root
/// p  = p - lr * (mu^ / (sqrt(nu^) + eps) + weight_decay * p)
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `eps = 1e-16`, `eps_root = 1e-16` and `weight_decay = 0`; see
/// [`scale_by_belief`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adabelief};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adabelief(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.70", "11.42", "10.17", "8.97"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adabelief(learning_rate: impl Into<Schedule>) -> Adabelief {
    chain((scale_by_belief(), add_decayed_weights(0.), scale_by_learning_rate(learning_rate)))
}

options!(Adabelief:
    0 ScaleByBelief { b1: f64, b2: f64, eps: f64, eps_root: f64, nesterov: bool }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(Adabelief: 1);
