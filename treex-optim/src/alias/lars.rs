//! LARS.

use treex_core::Filter;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_trust_ratio::{ScaleByTrustRatio, scale_by_trust_ratio};
use crate::transform::trace::{Trace, trace};

/// The type of [`lars`].
pub type Lars = Chain<(AddDecayedWeights, ScaleByTrustRatio, ScaleByLearningRate, Trace)>;

/// Momentum whose updates are proportional to the norm of the parameters of their leaf, for large batches:
///
/// ```text
/// u     = g + weight_decay * p
/// u     = -lr * u * trust_coefficient * norm(p) / (norm(u) + eps)
/// trace = u + momentum * trace
/// p     = p + trace                                       u + momentum * trace with nesterov
/// ```
///
/// with `weight_decay = 0`, `trust_coefficient = 0.001`, `eps = 0` and `momentum = 0.9`; see
/// [`scale_by_trust_ratio`]. The learning rate is applied before the momentum, as in the paper: when it
/// changes, the trace keeps its old steps. Exclude biases and scales by
/// [`weight_decay_mask`](Lars::weight_decay_mask) and [`trust_ratio_mask`](Lars::trust_ratio_mask).
///
/// You et al., [Large batch training of convolutional networks](https://arxiv.org/abs/1708.03888), 2017.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, lars};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(lars(10.0)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "13.72", "13.20", "12.49", "11.62"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn lars(learning_rate: impl Into<Schedule>) -> Lars {
    chain((
        add_decayed_weights(0.),
        scale_by_trust_ratio().trust_coefficient(1e-3),
        scale_by_learning_rate(learning_rate),
        trace(0.9),
    ))
}

options!(Lars:
    0 AddDecayedWeights { weight_decay: impl Into<Schedule> }
    1 ScaleByTrustRatio { trust_coefficient: f64, eps: f64 }
    3 Trace { nesterov: bool }
);

weight_decay_mask!(Lars: 0);

impl Lars {
    /// The decay rate of the sum of updates.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.0.3 = self.0.3.decay(momentum);
        self
    }

    /// Only the updates of parameters that `filter` selects are rescaled; the others have plain momentum.
    #[must_use]
    pub fn trust_ratio_mask(mut self, filter: impl Filter + Send + Sync + 'static) -> Self {
        self.0.1 = self.0.1.mask(filter);
        self
    }
}
