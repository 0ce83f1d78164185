//! Rprop.

use crate::chain::{Chain, chain};
use crate::transform::scale::{Scale, scale};
use crate::transform::scale_by_rprop::{ScaleByRprop, scale_by_rprop};

/// The type of [`rprop`].
pub type Rprop = Chain<(ScaleByRprop, Scale)>;

/// A step size for each element, adapted by the signs of the gradients alone; for full batches:
///
/// ```text
/// step = step * eta_plus or eta_minus                     where the gradient kept or changed its sign
/// p    = p - step * sign(g)                               unchanged where it changed
/// ```
///
/// with `eta_minus = 0.5`, `eta_plus = 1.2`, `min_step_size = 1e-6` and `max_step_size = 50`; the first steps
/// are of `learning_rate`. See [`scale_by_rprop`], also for the difference to Optax.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, rprop};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(rprop(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.83", "11.51", "10.03", "8.42"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn rprop(learning_rate: f64) -> Rprop {
    chain((scale_by_rprop(learning_rate), scale(-1.)))
}

options!(Rprop:
    0 ScaleByRprop { eta_minus: f64, eta_plus: f64, min_step_size: f64, max_step_size: f64, lagged: bool }
);
