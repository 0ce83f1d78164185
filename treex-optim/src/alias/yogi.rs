//! Yogi.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_yogi::{ScaleByYogi, scale_by_yogi};

/// The type of [`yogi`].
pub type Yogi = Chain<(ScaleByYogi, ScaleByLearningRate)>;

/// Adam whose average of squares changes additively:
///
/// ```text
/// mu = b1 * mu + (1 - b1) * g
/// nu = nu - (1 - b2) * sign(nu - g^2) * g^2
/// p  = p - lr * mu^ / (sqrt(nu^ + eps_root) + eps)        corrected as in Adam
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `eps = 1e-3` and `eps_root = 0`; see [`scale_by_yogi`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, yogi};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(yogi(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.72", "10.68", "9.70"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn yogi(learning_rate: impl Into<Schedule>) -> Yogi {
    chain((scale_by_yogi(), scale_by_learning_rate(learning_rate)))
}

options!(Yogi: 0 ScaleByYogi { b1: f64, b2: f64, eps: f64, eps_root: f64, initial_accumulator_value: f64 });
