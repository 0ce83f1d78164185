//! A collection of named metrics.

use std::collections::BTreeMap;

use treex_core::{Result, TreeObject};

use super::named::{Logs, same_names, unique};
use super::{Inputs, Metric};

/// Metrics by name that observe the same inputs: treex's `Metrics`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::metrics::{Inputs, Metrics, Mean, Sum};
///
/// let mut metrics = Metrics::new().add("loss", Mean::new()).add("loss", Sum::new());
/// let losses = Tensor::new(&[0.5f32, 1.5], &Device::Cpu)?;
/// let batch = metrics.call(&Inputs::new().values(&losses))?;
/// assert_eq!(batch["loss"].to_scalar::<f64>()?, 1.);
/// assert_eq!(batch["loss2"].to_scalar::<f64>()?, 2.);
/// # Ok::<(), treex_nn::treex_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, TreeObject)]
pub struct Metrics {
    /// In the order of their names.
    pub metrics: BTreeMap<String, Box<dyn Metric>>,
}

impl Metrics {
    /// An empty collection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metric. A repeated name gets a number: `loss`, `loss2`, `loss3`.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, metric: impl Metric + 'static) -> Self {
        let name = unique(&name.into(), |name| self.metrics.contains_key(name));
        self.metrics.insert(name, Box::new(metric));
        self
    }

    /// Accumulates a batch; each metric takes from `inputs` what it needs. Nothing changes on an error.
    ///
    /// # Errors
    /// The first error of a metric.
    pub fn observe(&mut self, inputs: &Inputs) -> Result<()> {
        self.changed(|_, metric| metric.observe(inputs)).map(|_| ())
    }

    /// The values over all batches since the last reset.
    ///
    /// # Errors
    /// The first error of a metric.
    pub fn compute(&self) -> Result<Logs> {
        self.metrics.iter().map(|(name, metric)| Ok((name.clone(), metric.compute()?))).collect()
    }

    /// [`observe`](Self::observe), and the values of this batch alone.
    ///
    /// # Errors
    /// As `observe` and `compute`.
    pub fn call(&mut self, inputs: &Inputs) -> Result<Logs> {
        self.changed(|_, metric| metric.call(inputs))
    }

    /// Resets the state to that of no batches.
    ///
    /// # Errors
    /// Any error of Candle.
    pub fn reset(&mut self) -> Result<()> {
        self.metrics.values_mut().try_for_each(|metric| metric.reset())
    }

    /// Adds the state of `other`.
    ///
    /// # Errors
    /// If `other` has other metrics, and the first error of a metric.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        same_names("metrics", self.metrics.keys(), other.metrics.keys())?;
        self.changed(|name, metric| metric.merge(&*other.metrics[name])).map(|_| ())
    }

    /// The result of `change` for each metric; if it fails for one, all are unchanged.
    fn changed<R>(
        &mut self,
        mut change: impl FnMut(&str, &mut dyn Metric) -> Result<R>,
    ) -> Result<BTreeMap<String, R>> {
        let mut changed = self.metrics.clone();
        let results =
            changed.iter_mut().map(|(name, metric)| Ok((name.clone(), change(name, &mut **metric)?)));
        let results = results.collect::<Result<_>>()?;
        self.metrics = changed;
        Ok(results)
    }
}
