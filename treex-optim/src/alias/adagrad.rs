//! AdaGrad.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_rss::{ScaleByRss, scale_by_rss};

/// The type of [`adagrad`].
pub type Adagrad = Chain<(ScaleByRss, ScaleByLearningRate)>;

/// Divides by the root of the sum of all squares so far:
///
/// ```text
/// sum_of_squares = sum_of_squares + g^2
/// p = p - lr * g / sqrt(sum_of_squares + eps)
/// ```
///
/// with `initial_accumulator_value = 0.1` and `eps = 1e-7`; see [`scale_by_rss`], and how PyTorch
/// differs.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adagrad};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adagrad(1.0)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "5.01", "2.40", "1.25", "0.69"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adagrad(learning_rate: impl Into<Schedule>) -> Adagrad {
    chain((scale_by_rss(), scale_by_learning_rate(learning_rate)))
}

options!(Adagrad: 0 ScaleByRss { initial_accumulator_value: f64, eps: f64 });
