//! NovoGrad.

use candle_core::DType;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::scale_by_novograd::{ScaleByNovograd, scale_by_novograd};

/// The type of [`novograd`].
pub type Novograd = Chain<(ScaleByNovograd, ScaleByLearningRate)>;

/// Momentum over gradients that are divided by a norm of their leaf:
///
/// ```text
/// nu = b2 * nu + (1 - b2) * norm(g)^2
/// mu = b1 * mu + g / (sqrt(nu + eps_root) + eps) + weight_decay * p
/// p  = p - lr * mu
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.25`, `eps = 1e-6`, `eps_root = 0` and `weight_decay = 0`; [`scale_by_novograd`]
/// says more.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, novograd};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(novograd(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "13.26", "11.92", "10.13", "8.09"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn novograd(learning_rate: impl Into<Schedule>) -> Novograd {
    chain((scale_by_novograd().eps(1e-6), scale_by_learning_rate(learning_rate)))
}

options!(Novograd:
    0 ScaleByNovograd {
        b1: f64, b2: f64, eps: f64, eps_root: f64, weight_decay: f64, mu_dtype: impl Into<Option<DType>>,
    }
);
