//! Sign descent.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_sign::{ScaleBySign, scale_by_sign};

/// The type of [`sign_sgd`].
pub type SignSgd = Chain<(ScaleBySign, ScaleByLearningRate)>;

/// Steps of constant size: `p = p - lr * sign(g)`.
///
/// Bernstein et al., [signSGD: compressed optimisation for non-convex problems](https://arxiv.org/abs/1802.04434), 2018.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, sign_sgd};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(sign_sgd(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.72", "10.67", "9.68"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn sign_sgd(learning_rate: impl Into<Schedule>) -> SignSgd {
    chain((scale_by_sign(), scale_by_learning_rate(learning_rate)))
}
