//! Adam.

use candle_core::DType;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_adam::{ScaleByAdam, scale_by_adam};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`adam`].
pub type Adam = Chain<(ScaleByAdam, ScaleByLearningRate)>;

/// Adam:
///
/// ```text
/// mu = b1 * mu + (1 - b1) * g
/// nu = b2 * nu + (1 - b2) * g^2
/// p  = p - lr * (mu / (1 - b1^t)) / (sqrt(nu / (1 - b2^t) + eps_root) + eps)
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `eps = 1e-8` and `eps_root = 0`; see [`scale_by_adam`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adam};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adam(0.1).b1(0.8)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.72", "10.68", "9.71"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adam(learning_rate: impl Into<Schedule>) -> Adam {
    chain((scale_by_adam(), scale_by_learning_rate(learning_rate)))
}

options!(Adam:
    0 ScaleByAdam {
        b1: f64, b2: f64, eps: f64, eps_root: f64,
        mu_dtype: impl Into<Option<DType>>, nesterov: bool,
    }
);
