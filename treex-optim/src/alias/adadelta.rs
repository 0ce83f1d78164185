//! Adadelta.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_adadelta::{ScaleByAdadelta, scale_by_adadelta};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`adadelta`].
pub type Adadelta = Chain<(AddDecayedWeights, ScaleByAdadelta, ScaleByLearningRate)>;

/// A step size from averages of squared gradients and squared updates:
///
/// ```text
/// g   = g + weight_decay * p
/// e_g = rho * e_g + (1 - rho) * g^2
/// u   = g * sqrt(e_x + eps) / sqrt(e_g + eps)
/// e_x = rho * e_x + (1 - rho) * u^2
/// p   = p - lr * u
/// ```
///
/// with `rho = 0.9`, `eps = 1e-6` and `weight_decay = 0`, which is an L2 penalty, as in PyTorch. Optax's
/// default learning rate of `None` ascends, since nothing flips the sign; here the learning rate is required,
/// and the paper's is 1.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adadelta};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adadelta(10.0)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "13.62", "13.25", "12.87", "12.51"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adadelta(learning_rate: impl Into<Schedule>) -> Adadelta {
    chain((add_decayed_weights(0.), scale_by_adadelta(), scale_by_learning_rate(learning_rate)))
}

options!(Adadelta:
    0 AddDecayedWeights { weight_decay: impl Into<Schedule> }
    1 ScaleByAdadelta { rho: f64, eps: f64 }
);

weight_decay_mask!(Adadelta: 0);
