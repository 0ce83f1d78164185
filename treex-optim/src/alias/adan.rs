//! Adan.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_adan::{ScaleByAdan, scale_by_adan};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`adan`].
pub type Adan = Chain<(ScaleByAdan, AddDecayedWeights, ScaleByLearningRate)>;

/// Nesterov's momentum from differences of gradients:
///
/// ```text
/// d = g - g_before
/// m, v, n: averages of g, d and (g + (1 - b2) * d)^2, corrected as in Adam
/// p = p - lr * ((m^ + (1 - b2) * v^) / (sqrt(n^ + eps_root) + eps) + weight_decay * p)
/// ```
///
/// with `b1 = 0.98`, `b2 = 0.92`, `b3 = 0.99`, `eps = 1e-8`, `eps_root = 1e-8` and `weight_decay = 0`;
/// see [`scale_by_adan`]. In the paper the decay divides, `p / (1 + lr * weight_decay)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adan};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adan(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.72", "10.67", "9.68"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adan(learning_rate: impl Into<Schedule>) -> Adan {
    chain((scale_by_adan().eps_root(1e-8), add_decayed_weights(0.), scale_by_learning_rate(learning_rate)))
}

options!(Adan:
    0 ScaleByAdan { b1: f64, b2: f64, b3: f64, eps: f64, eps_root: f64 }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(Adan: 1);
