//! L-BFGS with its line search.

use super::scale_by_lbfgs::{ScaleByLbfgs, scale_by_lbfgs};
use super::zoom::scale_by_zoom_linesearch;
use super::zoom_options::{InitialGuess, ScaleByZoomLinesearch};
use crate::chain::{Chain, chain};
use crate::schedule::Schedule;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};

/// The type of [`lbfgs`].
pub type Lbfgs = Chain<(ScaleByLbfgs, ScaleByLearningRate, ScaleByZoomLinesearch)>;

/// L-BFGS, for losses that are the same at each step: `p = p - a P g`, with the approximate inverse Hessian
/// `P` of [`scale_by_lbfgs`] and the step `a` of [`scale_by_zoom_linesearch`], which tries 1 first and 20
/// steps at most.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, lbfgs};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f64, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(lbfgs()).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let value = optimizer.minimize(&mut x, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     objective.push(format!("{value:.2}"));
/// }
/// assert_eq!(objective, ["14.00", "7.52", "0.00", "0.00", "0.00"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// Without a line search: `chain((scale_by_lbfgs(), scale_by_learning_rate(1e-2)))`.
#[must_use]
pub fn lbfgs() -> Lbfgs {
    let linesearch = scale_by_zoom_linesearch(20).initial_guess(InitialGuess::One);
    chain((scale_by_lbfgs(), scale_by_learning_rate(1.), linesearch))
}

impl Lbfgs {
    /// The number of stored differences.
    #[must_use]
    pub fn memory_size(mut self, memory_size: usize) -> Self {
        self.0.0 = self.0.0.memory_size(memory_size);
        self
    }

    /// [`ScaleByLbfgs::scale_init_precond`](crate::ScaleByLbfgs::scale_init_precond)
    #[must_use]
    pub fn scale_init_precond(mut self, scale_init_precond: bool) -> Self {
        self.0.0 = self.0.0.scale_init_precond(scale_init_precond);
        self
    }

    /// A factor on the step before the line search, over the steps. Default: 1.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: impl Into<Schedule>) -> Self {
        self.0.1 = scale_by_learning_rate(learning_rate);
        self
    }

    /// Replaces the line search.
    #[must_use]
    pub fn linesearch(mut self, linesearch: ScaleByZoomLinesearch) -> Self {
        self.0.2 = linesearch;
        self
    }
}
