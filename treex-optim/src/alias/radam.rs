//! RAdam.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_radam::{ScaleByRadam, scale_by_radam};

/// The type of [`radam`].
pub type Radam = Chain<(ScaleByRadam, ScaleByLearningRate)>;

/// Adam that starts as momentum, and divides once the variance of the average of squares is tractable:
///
/// ```text
/// p = p - lr * r * mu^ / (sqrt(nu^ + eps_root) + eps)     from the step where ro >= threshold
///     p - lr * mu^                                        before
/// ```
///
/// with Adam's defaults and `threshold = 5`; [`scale_by_radam`] has `r` and `ro`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, radam};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(radam(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "8.96", "5.40", "2.99", "1.46"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn radam(learning_rate: impl Into<Schedule>) -> Radam {
    chain((scale_by_radam(), scale_by_learning_rate(learning_rate)))
}

options!(Radam: 0 ScaleByRadam { b1: f64, b2: f64, eps: f64, eps_root: f64, threshold: f64, nesterov: bool });
