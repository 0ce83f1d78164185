//! The trait of metrics.

use candle_core::Tensor;
use dyn_clone::DynClone;
use treex_core::{Result, TreeObject};

use super::{Inputs, state};

/// A metric: a value computed over many batches.
///
/// Its state is in leaves of kind [`MetricState`](treex_core::MetricState) and additive: two metrics that
/// observed a half each [`merge`](Self::merge) into one that observed the whole. So `reset` and `merge` are
/// provided, over the leaves. `Box<dyn Metric>` can be cloned.
pub trait Metric: TreeObject + DynClone {
    /// Accumulates a batch; torchmetrics calls this `update`, which is a verb over trees here. Nothing
    /// changes on an error.
    ///
    /// # Errors
    /// If an input is missing or has the wrong shape, and if a count would overflow.
    fn observe(&mut self, inputs: &Inputs) -> Result<()>;

    /// The value over all batches since the last reset, in `F64`: a scalar, or one number for each class.
    ///
    /// # Errors
    /// If the state was filtered out.
    fn compute(&self) -> Result<Tensor>;

    /// Resets the state to that of no batches.
    ///
    /// # Errors
    /// Any error of Candle.
    fn reset(&mut self) -> Result<()> {
        state::states(self).into_iter().try_for_each(state::clear)
    }

    /// Adds the state of `other`, a metric of the same type and options.
    ///
    /// # Errors
    /// If `other` is another metric, and if a count would overflow.
    fn merge(&mut self, other: &dyn Metric) -> Result<()> {
        state::merge(self, &mut *dyn_clone::clone_box(other))
    }

    /// [`observe`](Self::observe), and the value of this batch alone.
    ///
    /// # Errors
    /// As `observe` and `compute`.
    fn call(&mut self, inputs: &Inputs) -> Result<Tensor> {
        let mut batch = dyn_clone::clone_box(self);
        batch.reset()?;
        batch.observe(inputs)?;
        let value = batch.compute()?;
        state::merge(self, &mut *batch)?;
        Ok(value)
    }
}

dyn_clone::clone_trait_object!(Metric);

impl std::fmt::Debug for dyn Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.module_name().unwrap_or("Metric"))
    }
}
