//! AdaMax.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_adamax::{ScaleByAdamax, scale_by_adamax};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`adamax`].
pub type Adamax = Chain<(ScaleByAdamax, ScaleByLearningRate)>;

/// Adam with the largest absolute value in place of the average of squares:
///
/// ```text
/// mu = b1 * mu + (1 - b1) * g
/// nu = max(b2 * nu, |g| + eps)
/// p  = p - lr * mu / (1 - b1^t) / nu
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999` and `eps = 1e-8`; see [`scale_by_adamax`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adamax};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adamax(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.75", "10.75", "9.82"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adamax(learning_rate: impl Into<Schedule>) -> Adamax {
    chain((scale_by_adamax(), scale_by_learning_rate(learning_rate)))
}

options!(Adamax: 0 ScaleByAdamax { b1: f64, b2: f64, eps: f64 });
