//! Stochastic gradient descent.

use candle_core::DType;

use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transform::trace::{Trace, trace};

/// The type of [`sgd`].
pub type Sgd = Chain<(Option<Trace>, ScaleByLearningRate)>;

/// Stochastic gradient descent, with optional momentum:
///
/// ```text
/// p = p - lr * g                                            plain
/// trace = g + momentum * trace,  p = p - lr * trace         with momentum
///                                p = p - lr * (g + momentum * trace)    with Nesterov's
/// ```
///
/// The same as PyTorch's `SGD` without dampening and weight decay; see [`trace`] for the momentum.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, sgd};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(sgd(0.1).momentum(0.5)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "8.96", "4.08", "1.28", "0.21"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn sgd(learning_rate: impl Into<Schedule>) -> Sgd {
    chain((None, scale_by_learning_rate(learning_rate)))
}

impl Sgd {
    /// The decay rate of the sum of gradients; no sum by default.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.0.0.get_or_insert(trace(0.)).decay = momentum;
        self
    }

    /// Whether to use Nesterov momentum; no effect without momentum.
    #[must_use]
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.0.0.get_or_insert(trace(0.)).nesterov = nesterov;
        self
    }

    /// The element type of the sum of gradients; no effect without momentum.
    #[must_use]
    pub fn accumulator_dtype(mut self, dtype: impl Into<Option<DType>>) -> Self {
        self.0.0 = Some(self.0.0.unwrap_or_else(|| trace(0.)).accumulator_dtype(dtype));
        self
    }
}
