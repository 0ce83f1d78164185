//! Gradient descent with Polyak's step size.

use crate::alias::sgd::{Sgd, sgd};
use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_polyak::{PolyakVariant, ScaleByPolyak, scale_by_polyak};

/// The type of [`polyak_sgd`].
pub type PolyakSgd = Chain<(Sgd, ScaleByPolyak)>;

/// Gradient descent with a step size from the value of the loss, which every update needs:
///
/// ```text
/// p = p - scaling * g * min((value - f_min) / norm(scaling * g)^2, max_learning_rate)
/// ```
///
/// with `scaling = 1`, `f_min = 0` and `max_learning_rate = 1`; see [`scale_by_polyak`].
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Extra, Optimizer, polyak_sgd};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(polyak_sgd()).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     let extra = Extra::value(f64::from(value.to_scalar::<f32>()?));
///     optimizer.update_with(&gradient, &mut x, &extra)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "3.50", "0.88", "0.22", "0.05"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn polyak_sgd() -> PolyakSgd {
    chain((sgd(1.), scale_by_polyak()))
}

options!(PolyakSgd: 1 ScaleByPolyak { max_learning_rate: f64, f_min: f64, eps: f64, variant: PolyakVariant });

impl PolyakSgd {
    /// A factor on the gradient, applied before its norm.
    #[must_use]
    pub fn scaling(mut self, scaling: impl Into<Schedule>) -> Self {
        self.0.0 = sgd(scaling);
        self
    }
}
