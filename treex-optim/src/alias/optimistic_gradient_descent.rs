//! Optimistic gradient descent.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_optimistic_gradient::{
    ScaleByOptimisticGradient, scale_by_optimistic_gradient,
};

/// The type of [`optimistic_gradient_descent`].
pub type OptimisticGradientDescent = Chain<(ScaleByOptimisticGradient, ScaleByLearningRate)>;

/// Gradient descent that steps back along the previous gradient, for games, where plain descent cycles:
///
/// ```text
/// p = p - lr * ((alpha + beta) * g - beta * g_before)
/// ```
///
/// with `alpha = 1` and `beta = 1`; see [`scale_by_optimistic_gradient`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, optimistic_gradient_descent};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(optimistic_gradient_descent(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "8.96", "6.47", "4.52", "3.18"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn optimistic_gradient_descent(learning_rate: impl Into<Schedule>) -> OptimisticGradientDescent {
    chain((scale_by_optimistic_gradient(), scale_by_learning_rate(learning_rate)))
}

options!(OptimisticGradientDescent: 0 ScaleByOptimisticGradient { alpha: f64, beta: f64 });
