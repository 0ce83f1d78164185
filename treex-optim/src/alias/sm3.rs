//! SM3.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_sm3::{ScaleBySm3, scale_by_sm3};

/// The type of [`sm3`].
pub type Sm3 = Chain<(ScaleBySm3, ScaleByLearningRate)>;

/// AdaGrad in a fraction of the memory, with momentum:
///
/// ```text
/// sum = min over the axes of mu[axis] + g^2,              mu[axis] = the largest of sum over the other axes
/// nu  = momentum * nu + (1 - momentum) * g / sqrt(sum + eps)
/// p   = p - lr * nu
/// ```
///
/// with `momentum = 0.9`; see [`scale_by_sm3`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, sm3};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(sm3(1.0)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.09", "9.15", "7.25"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn sm3(learning_rate: impl Into<Schedule>) -> Sm3 {
    chain((scale_by_sm3(), scale_by_learning_rate(learning_rate)))
}

impl Sm3 {
    /// The decay rate of the average of the rescaled gradients.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.0.0 = self.0.0.b1(momentum);
        self
    }
}
