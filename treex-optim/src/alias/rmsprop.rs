//! RMSProp.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_rms::{ScaleByRms, scale_by_rms};
use crate::transform::trace::{Trace, trace};

/// The type of [`rmsprop`].
pub type Rmsprop = Chain<(ScaleByRms, ScaleByLearningRate, Option<Trace>)>;

/// Divides by the root of an average of the squares; momentum is optional:
///
/// ```text
/// nu    = decay * nu + (1 - decay) * g^2
/// u     = -lr * g / sqrt(nu + eps)                        minus mu^2 under the root if centered
/// trace = u + momentum * trace
/// p     = p + trace                                       p + u without momentum
/// ```
///
/// with `decay = 0.9`, `eps = 1e-8`, `initial_scale = 0` and `eps_in_sqrt = true`; [`scale_by_rms`] says
/// more. The learning rate is applied before the momentum: when it changes, the trace keeps its old steps,
/// unlike in PyTorch. Otherwise `eps_in_sqrt(false).decay(0.99)` is PyTorch's `RMSprop`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, rmsprop};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(rmsprop(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "10.51", "8.51", "7.10", "6.03"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn rmsprop(learning_rate: impl Into<Schedule>) -> Rmsprop {
    chain((scale_by_rms(), scale_by_learning_rate(learning_rate), None))
}

options!(Rmsprop:
    0 ScaleByRms {
        decay: f64, eps: f64, initial_scale: f64, eps_in_sqrt: bool, bias_correction: bool, centered: bool
    }
);

impl Rmsprop {
    /// The decay rate of the sum of updates; no sum by default.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.0.2.get_or_insert(trace(0.)).decay = momentum;
        self
    }

    /// Whether to use Nesterov momentum; no effect without momentum.
    #[must_use]
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.0.2.get_or_insert(trace(0.)).nesterov = nesterov;
        self
    }
}
