//! Adam with Nesterov's momentum.

use crate::alias::adam::{Adam, adam};
use crate::schedule::Schedule;

/// [`adam`] with Nesterov momentum, after Dozat:
///
/// ```text
/// mu^ = b1 * mu / (1 - b1^(t+1)) + (1 - b1) * g / (1 - b1^t)
/// ```
///
/// The same as `adam(learning_rate).nesterov(true)`. PyTorch's `NAdam` also schedules its momentum.
///
/// Dozat, [Incorporating Nesterov momentum into Adam](https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ), 2016.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, nadam};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(nadam(0.1)).init(&x)?;
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
pub fn nadam(learning_rate: impl Into<Schedule>) -> Adam {
    adam(learning_rate).nesterov(true)
}
