//! AMSGrad.

use candle_core::DType;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_amsgrad::{ScaleByAmsgrad, scale_by_amsgrad};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`amsgrad`].
pub type Amsgrad = Chain<(ScaleByAmsgrad, ScaleByLearningRate)>;

/// Adam with a denominator that never shrinks:
///
/// ```text
/// mu^, nu^ as in Adam
/// nu_max = max(nu_max, nu^)
/// p      = p - lr * mu^ / (sqrt(nu_max + eps_root) + eps)
/// ```
///
/// with Adam's defaults; see [`scale_by_amsgrad`], also for the difference to PyTorch.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, amsgrad};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(amsgrad(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.75", "10.75", "9.83"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn amsgrad(learning_rate: impl Into<Schedule>) -> Amsgrad {
    chain((scale_by_amsgrad(), scale_by_learning_rate(learning_rate)))
}

options!(Amsgrad:
    0 ScaleByAmsgrad {
        b1: f64, b2: f64, eps: f64, eps_root: f64,
        mu_dtype: impl Into<Option<DType>>, bias_correction_mu: bool, bias_correction_nu: bool,
    }
);
