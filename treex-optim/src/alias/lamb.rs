//! LAMB.

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_adam::{ScaleByAdam, scale_by_adam};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_trust_ratio::{ScaleByTrustRatio, scale_by_trust_ratio};

/// The type of [`lamb`].
pub type Lamb = Chain<(ScaleByAdam, AddDecayedWeights, ScaleByTrustRatio, ScaleByLearningRate)>;

/// Adam whose update of each leaf is proportional to the norm of its parameters, for large batches:
///
/// ```text
/// u = mu^ / (sqrt(nu^ + eps_root) + eps) + weight_decay * p       as in Adam
/// p = p - lr * u * norm(p) / norm(u)
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `eps = 1e-6`, `eps_root = 0` and `weight_decay = 0`; see
/// [`scale_by_trust_ratio`].
///
/// You et al., [Large batch optimization for deep learning: training BERT in 76
/// minutes](https://arxiv.org/abs/1904.00962), 2019.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, lamb};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(lamb(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "11.55", "9.56", "7.94", "6.62"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn lamb(learning_rate: impl Into<Schedule>) -> Lamb {
    chain((
        scale_by_adam().eps(1e-6),
        add_decayed_weights(0.),
        scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    ))
}

options!(Lamb:
    0 ScaleByAdam { b1: f64, b2: f64, eps: f64, eps_root: f64 }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(Lamb: 1);
