//! Several metrics under their names.

use std::collections::BTreeMap;

use candle_core::Tensor;
use treex_core::{Error, ErrorKind, Result, TreeObject};

use super::{Inputs, Metric};

/// Metrics by name, which observe together. See the [module](super) for an example.
#[derive(Clone, Debug, Default, TreeObject)]
pub struct Metrics {
    /// In the order of their names.
    pub metrics: BTreeMap<String, Box<dyn Metric>>,
}

impl Metrics {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more. The second of a name gets a 2 behind it, the third a 3.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, metric: impl Metric + 'static) -> Self {
        let name = name.into();
        let numbered = (2..).map(|number| format!("{name}{number}"));
        let free = |name: &String| !self.metrics.contains_key(name);
        if let Some(name) = [name.clone()].into_iter().chain(numbered).find(free) {
            self.metrics.insert(name, Box::new(metric));
        }
        self
    }

    /// Takes a batch into account; each metric takes from `inputs` what it needs. Nothing changes on an error.
    ///
    /// # Errors
    /// The first of a metric.
    pub fn observe(&mut self, inputs: &Inputs) -> Result<()> {
        self.changed(|_, metric| metric.observe(inputs)).map(|_| ())
    }

    /// The values over all batches since the last reset.
    ///
    /// # Errors
    /// The first of a metric.
    pub fn compute(&self) -> Result<BTreeMap<String, Tensor>> {
        self.metrics.iter().map(|(name, metric)| Ok((name.clone(), metric.compute()?))).collect()
    }

    /// [`observe`](Self::observe), and the values of this batch alone.
    ///
    /// # Errors
    /// As `observe` and `compute`.
    pub fn call(&mut self, inputs: &Inputs) -> Result<BTreeMap<String, Tensor>> {
        self.changed(|_, metric| metric.call(inputs))
    }

    /// Forgets all batches.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn reset(&mut self) -> Result<()> {
        self.metrics.values_mut().try_for_each(|metric| metric.reset())
    }

    /// Takes into account what `other` has seen.
    ///
    /// # Errors
    /// If `other` has other metrics, and the first of a metric.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if !self.metrics.keys().eq(other.metrics.keys()) {
            let names = |metrics: &Self| format!("{:?}", metrics.metrics.keys().collect::<Vec<_>>());
            return Err(Error::new(ErrorKind::Structure, "two collections that differ cannot be merged")
                .expected(names(self))
                .found(names(other))
                .remedy("start both from a clone"));
        }
        self.changed(|name, metric| metric.merge(&*other.metrics[name])).map(|_| ())
    }

    /// What `change` gives for each metric; if it fails for one, all are as they were.
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
