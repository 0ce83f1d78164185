//! A metric of one of several outputs.

use candle_core::Tensor;
use treex_core::{Result, TreeObject};

use super::{Inputs, Metric};

/// A metric of the part of its inputs that has a name: treex's option `on`. It can stand around another.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::metrics::{Inputs, Metric, Mse, On};
///
/// let (preds, target) = (Tensor::new(&[1f32, 2.], &Device::Cpu)?, Tensor::new(&[1f32, 4.], &Device::Cpu)?);
/// let depth = Inputs::new().preds(&preds).target(&target);
/// let mse = On::new("depth", Mse::new()).call(&Inputs::new().part("depth", depth))?;
/// assert_eq!(mse.to_scalar::<f64>()?, 2.);
/// # Ok::<(), treex_nn::treex_core::Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct On<M> {
    /// What observes the part.
    pub metric: M,
    part: String,
}

impl<M: Metric> On<M> {
    /// `metric` of the [`part`](Inputs::part) of this name.
    #[must_use]
    pub fn new(part: impl Into<String>, metric: M) -> Self {
        Self { metric, part: part.into() }
    }
}

impl<M: Metric + Clone> Metric for On<M> {
    fn observe(&mut self, inputs: &Inputs) -> Result<()> {
        self.metric.observe(inputs.get_part(&self.part).map_err(|error| error.of(self.identity()))?)
    }

    fn compute(&self) -> Result<Tensor> {
        self.metric.compute()
    }
}
