//! Means and sums of values.

use candle_core::{DType, Device, Tensor};
use treex_core::{Leaf, MetricState, Result, TreeObject};

use super::state::{add, empty_state, value};
use super::{Inputs, Metric};

/// `Σ weight · value / Σ weight`; default weights: 1. Without values, NaN.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::metrics::{Inputs, Mean, Metric};
///
/// let (values, weights) = (Tensor::new(&[1f32, 3., 5.], &Device::Cpu)?, Tensor::new(&[1f32, 1., 0.], &Device::Cpu)?);
/// let mut mean = Mean::new();
/// mean.observe(&Inputs::new().values(&values).sample_weight(&weights))?;
/// assert_eq!(mean.compute()?.to_scalar::<f64>()?, 2.);
/// # Ok::<(), treex_nn::treex_core::Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Mean {
    /// The weighted sum of the values.
    pub total: Leaf<MetricState>,
    /// The sum of the weights, or the number of the values.
    pub count: Leaf<MetricState>,
    over_batch_size: bool,
}

impl Mean {
    /// A mean without values.
    #[must_use]
    pub fn new() -> Self {
        let [total, count] = [(); 2].map(|()| empty_state((), DType::F64));
        Self { total, count, over_batch_size: false }
    }

    /// Whether to divide by the number of values instead of the sum of weights: treex's reduction
    /// `sum_over_batch_size`; default: false.
    #[must_use]
    pub fn sum_over_batch_size(self, over_batch_size: bool) -> Self {
        Self { over_batch_size, ..self }
    }

    /// Accumulates `values` with the weights of `inputs`, for `metric`.
    pub(super) fn accumulate(&mut self, metric: &str, values: &Tensor, inputs: &Inputs) -> Result<()> {
        let (total, weights) = inputs.weighted_sum(metric, values)?;
        let count = if self.over_batch_size { values.elem_count() as f64 } else { weights };
        let scalar = |x: f64| Tensor::new(x, &Device::Cpu);
        add([(&mut self.total, scalar(total)?), (&mut self.count, scalar(count)?)])
    }
}

impl Default for Mean {
    fn default() -> Self {
        Self::new()
    }
}

impl Metric for Mean {
    fn observe(&mut self, inputs: &Inputs) -> Result<()> {
        self.accumulate("Mean", &inputs.get_values("Mean")?, inputs)
    }

    fn compute(&self) -> Result<Tensor> {
        Ok((value(&self.total)? / value(&self.count)?)?)
    }
}

/// `Σ weight · value`; default weights: 1.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::metrics::{Inputs, Metric, Sum};
///
/// let values = Tensor::new(&[1f32, 3., 5.], &Device::Cpu)?;
/// let mut sum = Sum::new();
/// assert_eq!(sum.call(&Inputs::new().values(&values))?.to_scalar::<f64>()?, 9.);
/// # Ok::<(), treex_nn::treex_core::Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Sum {
    /// The weighted sum of the values.
    pub total: Leaf<MetricState>,
}

impl Sum {
    /// A sum without values.
    #[must_use]
    pub fn new() -> Self {
        Self { total: empty_state((), DType::F64) }
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self::new()
    }
}

impl Metric for Sum {
    fn observe(&mut self, inputs: &Inputs) -> Result<()> {
        let (total, _) = inputs.weighted_sum("Sum", &inputs.get_values("Sum")?)?;
        add([(&mut self.total, Tensor::new(total, &Device::Cpu)?)])
    }

    fn compute(&self) -> Result<Tensor> {
        value(&self.total)
    }
}
