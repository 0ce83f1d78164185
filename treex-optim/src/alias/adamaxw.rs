//! AdaMax with weight decay.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_adamax::{ScaleByAdamax, scale_by_adamax};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`adamaxw`].
pub type AdamaxW = Chain<(ScaleByAdamax, AddDecayedWeights, ScaleByLearningRate)>;

/// [`adamax`](crate::adamax) with decoupled weight decay: `p = p - lr * (u + weight_decay * p)`, with
/// `weight_decay = 1e-4`. The decay is multiplied by the learning rate, as in [`adamw`](crate::adamw).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adamaxw};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adamaxw(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.75", "10.74", "9.82"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adamaxw(learning_rate: impl Into<Schedule>) -> AdamaxW {
    chain((scale_by_adamax(), add_decayed_weights(1e-4), scale_by_learning_rate(learning_rate)))
}

options!(AdamaxW:
    0 ScaleByAdamax { b1: f64, b2: f64, eps: f64 }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(AdamaxW: 1);
