//! Optimistic Adam.

use candle_core::DType;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_adam::{ScaleByAdam, scale_by_adam};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_optimistic_gradient::{
    ScaleByOptimisticGradient, scale_by_optimistic_gradient,
};

/// The type of [`optimistic_adam_v2`].
pub type OptimisticAdamV2 = Chain<(ScaleByAdam, ScaleByOptimisticGradient, ScaleByLearningRate)>;

/// Adam that steps back along its previous update:
///
/// ```text
/// u = mu^ / (sqrt(nu^ + eps_root) + eps)                  as in Adam
/// p = p - lr * ((alpha + beta) * u - beta * u_before)
/// ```
///
/// with Adam's defaults but `nesterov = true`, and with `alpha = 1` and `beta = 1`.
///
/// Daskalakis et al., [Training GANs with optimism](https://arxiv.org/abs/1711.00141), 2017.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, optimistic_adam_v2};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(optimistic_adam_v2(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.30", "11.43", "10.42", "9.47"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn optimistic_adam_v2(learning_rate: impl Into<Schedule>) -> OptimisticAdamV2 {
    chain((
        scale_by_adam().nesterov(true),
        scale_by_optimistic_gradient(),
        scale_by_learning_rate(learning_rate),
    ))
}

options!(OptimisticAdamV2:
    0 ScaleByAdam {
        b1: f64, b2: f64, eps: f64, eps_root: f64,
        mu_dtype: impl Into<Option<DType>>, nesterov: bool,
    }
    1 ScaleByOptimisticGradient { alpha: f64, beta: f64 }
);
