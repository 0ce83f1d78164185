//! Optimistic Adam, the older form.

use candle_core::DType;

use crate::chain::{Chain, chain};
use crate::transform::scale::{Scale, scale};
use crate::transform::scale_by_adam::{ScaleByAdam, scale_by_adam};
use crate::transform::scale_by_optimistic_gradient::{
    ScaleByOptimisticGradient, scale_by_optimistic_gradient,
};

/// The type of [`optimistic_adam`].
pub type OptimisticAdam = Chain<(ScaleByAdam, ScaleByOptimisticGradient, Scale)>;

/// Adam that steps back along its previous update:
///
/// ```text
/// u = mu^ / (sqrt(nu^ + eps_root) + eps)                  as in Adam
/// p = p - ((lr + optimism) * u - optimism * u_before)
/// ```
///
/// with Adam's defaults but `nesterov = true`, and `optimism = lr`. It takes no schedule, and Optax
/// deprecates it for [`optimistic_adam_v2`](crate::optimistic_adam_v2).
///
/// Daskalakis et al., [Training GANs with optimism](https://arxiv.org/abs/1711.00141), 2017.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, optimistic_adam};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(optimistic_adam(0.1)).init(&x)?;
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
pub fn optimistic_adam(learning_rate: f64) -> OptimisticAdam {
    chain((
        scale_by_adam().nesterov(true),
        scale_by_optimistic_gradient().alpha(learning_rate).beta(learning_rate),
        scale(-1.),
    ))
}

options!(OptimisticAdam:
    0 ScaleByAdam {
        b1: f64, b2: f64, eps: f64, eps_root: f64,
        mu_dtype: impl Into<Option<DType>>, nesterov: bool,
    }
);

impl OptimisticAdam {
    /// The size of the step back.
    #[must_use]
    pub fn optimism(mut self, optimism: f64) -> Self {
        self.0.1 = self.0.1.beta(optimism);
        self
    }
}
