//! AdamW with Nesterov's momentum.

use crate::alias::adamw::{AdamW, adamw};
use crate::schedule::Schedule;

/// [`adamw`] with Nesterov momentum, as that of [`nadam`](crate::nadam). The same as
/// `adamw(learning_rate).nesterov(true)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, nadamw};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(nadamw(0.1)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.30", "11.07", "10.01", "9.05"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn nadamw(learning_rate: impl Into<Schedule>) -> AdamW {
    adamw(learning_rate).nesterov(true)
}
