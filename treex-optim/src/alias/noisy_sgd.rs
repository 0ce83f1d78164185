//! Gradient descent with noise.

use treex_core::random::Key;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_noise::{AddNoise, add_noise};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`noisy_sgd`].
pub type NoisySgd = Chain<(AddNoise, ScaleByLearningRate)>;

/// Gradient descent with annealed noise:
///
/// ```text
/// p = p - lr * (g + sqrt(eta / t^gamma) * n)              n ~ N(0, 1)
/// ```
///
/// with `eta = 0.01` and `gamma = 0.55`; see [`add_noise`].
///
/// Neelakantan et al., [Adding gradient noise improves learning for very deep
/// networks](https://arxiv.org/abs/1511.06807), 2015.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, noisy_sgd};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(noisy_sgd(0.1, 42)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "8.91", "5.75", "3.72", "2.39"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn noisy_sgd(learning_rate: impl Into<Schedule>, key: impl Into<Key>) -> NoisySgd {
    chain((add_noise(0.01, 0.55, key), scale_by_learning_rate(learning_rate)))
}

options!(NoisySgd: 0 AddNoise { eta: f64, gamma: f64 });
