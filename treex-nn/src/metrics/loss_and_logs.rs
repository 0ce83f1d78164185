//! Losses, metrics and auxiliary values of a batch at once.

use candle_core::Tensor;
use treex_core::{Result, Tree, TreeObject};

use super::named::{Logs, sum, unique};
use super::{AuxLosses, AuxMetrics, Inputs, Losses, Metrics};

/// Losses and metrics of the outputs, and the auxiliary ones of layers: treex's `LossAndLogs`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::metrics::{Inputs, LossAndLogs, Losses, Metrics, Mae};
/// use treex_nn::{Linear, prelude::*};
///
/// let losses = Losses::new().add("mse", |preds, target| Ok((preds - target)?.sqr()?));
/// let mut loss_and_logs = LossAndLogs::new(losses, Metrics::new().add("mae", Mae::new()));
///
/// let mut model = Linear::new(3, 2).init(42, &Device::Cpu)?;
/// let (x, y) = (Tensor::ones((4, 3), DType::F32, &Device::Cpu)?, Tensor::ones((4, 2), DType::F32, &Device::Cpu)?);
/// let ((loss, logs), grads) = model.value_and_grad_aux(Parameter, |model| {
///     let inputs = Inputs::new().preds(&model.call(&x)?).target(&y);
///     let (loss, losses, metrics) = loss_and_logs.call(&inputs, model)?;
///     Ok((loss, (losses, metrics)))
/// })?;
/// assert_eq!((loss.dims(), grads.kernel.get()?.dims()), (&[][..], &[3, 2][..]));
/// assert_eq!(logs.0.keys().collect::<Vec<_>>(), ["loss", "mse_loss"]);
/// assert_eq!(logs.1.keys().collect::<Vec<_>>(), ["mae"]);
///
/// let (mean_loss, losses, metrics) = loss_and_logs.compute()?;
/// loss_and_logs.reset()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default, TreeObject)]
pub struct LossAndLogs {
    /// The losses of predictions and targets.
    pub losses: Losses,
    /// The metrics of the inputs.
    pub metrics: Metrics,
    /// The auxiliary ones of the model's layers.
    pub aux_losses: AuxLosses,
    /// The auxiliary ones of the model's layers.
    pub aux_metrics: AuxMetrics,
}

impl LossAndLogs {
    /// These losses and metrics, and the auxiliary ones of the model's layers.
    #[must_use]
    pub fn new(losses: Losses, metrics: Metrics) -> Self {
        Self { losses, metrics, ..Self::default() }
    }

    /// For a batch: the sum of all losses, through which gradients flow; the losses as numbers, with their
    /// sum under the name `loss`; the metrics. All are accumulated; nothing changes on an error.
    ///
    /// # Errors
    /// The first error of a part.
    pub fn call(&mut self, inputs: &Inputs, model: &impl Tree) -> Result<(Tensor, Logs, Logs)> {
        let mut after = self.clone();
        let (loss, losses) = after.losses.call(inputs)?;
        let (aux_loss, aux_losses) = after.aux_losses.call(model)?;
        let (metrics, aux_metrics) = (after.metrics.call(inputs)?, after.aux_metrics.call(model)?);
        *self = after;
        Ok((both(loss, aux_loss)?, with_sum(joined(losses, aux_losses))?, joined(metrics, aux_metrics)))
    }

    /// The same over all batches since the last reset: the sum of the losses' means, the means, the metrics.
    ///
    /// # Errors
    /// The first error of a part.
    pub fn compute(&self) -> Result<(Tensor, Logs, Logs)> {
        let ((loss, losses), (aux_loss, aux_losses)) = (self.losses.compute()?, self.aux_losses.compute()?);
        let metrics = joined(self.metrics.compute()?, self.aux_metrics.compute()?);
        Ok((both(loss, aux_loss)?, with_sum(joined(losses, aux_losses))?, metrics))
    }

    /// The loss of a batch for training, and the logs over all batches: `call` and `compute` at once.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn batch_loss_epoch_logs(
        &mut self,
        inputs: &Inputs,
        model: &impl Tree,
    ) -> Result<(Tensor, Logs, Logs)> {
        let (loss, ..) = self.call(inputs, model)?;
        let (_, losses, metrics) = self.compute()?;
        Ok((loss, losses, metrics))
    }

    /// Resets the state to that of no batches.
    ///
    /// # Errors
    /// Any error of Candle.
    pub fn reset(&mut self) -> Result<()> {
        self.losses.reset()?;
        self.metrics.reset()?;
        self.aux_losses.reset()?;
        self.aux_metrics.reset()
    }

    /// Adds the state of `other`; nothing changes on an error.
    ///
    /// # Errors
    /// If `other` has other losses or metrics.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let mut after = self.clone();
        after.losses.merge(&other.losses)?;
        after.metrics.merge(&other.metrics)?;
        after.aux_losses.merge(&other.aux_losses)?;
        after.aux_metrics.merge(&other.aux_metrics)?;
        *self = after;
        Ok(())
    }
}

/// The sum of two losses, in the type that holds both.
fn both(loss: Tensor, aux_loss: Tensor) -> Result<Tensor> {
    sum(&Logs::from([("loss".into(), loss), ("aux_loss".into(), aux_loss)]))
}

/// `losses` and their sum, under the name `loss`.
fn with_sum(losses: Logs) -> Result<Logs> {
    Ok(joined(Logs::from([("loss".into(), sum(&losses)?)]), losses))
}

/// Both in one map; a repeated name gets a number.
fn joined(mut logs: Logs, others: Logs) -> Logs {
    for (name, value) in others {
        logs.insert(unique(&name, |name| logs.contains_key(name)), value);
    }
    logs
}
