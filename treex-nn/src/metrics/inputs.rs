//! The inputs of metrics.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use treex_core::transfers::transfer;
use treex_core::{Error, Result};

use super::state::to_host;

/// Tensors by name. Each metric takes those that it needs.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::metrics::{Inputs, Metric, Mse};
///
/// let (preds, target) = (Tensor::new(&[1f32, 2.], &Device::Cpu)?, Tensor::new(&[1f32, 4.], &Device::Cpu)?);
/// let mse = Mse::new().call(&Inputs::new().preds(&preds).target(&target))?;
/// assert_eq!(mse.to_scalar::<f64>()?, 2.);
/// # Ok::<(), treex_nn::treex_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    values: Option<Tensor>,
    preds: Option<Tensor>,
    target: Option<Tensor>,
    sample_weight: Option<Tensor>,
    parts: BTreeMap<String, Self>,
}

impl Inputs {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The values of a [`Mean`](super::Mean) or a [`Sum`](super::Sum), for instance losses.
    #[must_use]
    pub fn values(self, values: &Tensor) -> Self {
        Self { values: Some(values.clone()), ..self }
    }

    /// The model's predictions.
    #[must_use]
    pub fn preds(self, preds: &Tensor) -> Self {
        Self { preds: Some(preds.clone()), ..self }
    }

    /// The targets.
    #[must_use]
    pub fn target(self, target: &Tensor) -> Self {
        Self { target: Some(target.clone()), ..self }
    }

    /// The weight of each value; default: 1. It has the first dimensions of the values, or size 1 instead,
    /// and is broadcast over the others.
    #[must_use]
    pub fn sample_weight(self, sample_weight: &Tensor) -> Self {
        Self { sample_weight: Some(sample_weight.clone()), ..self }
    }

    /// The inputs of one of several outputs, for metrics [`On`](super::On) it.
    #[must_use]
    pub fn part(mut self, name: impl Into<String>, inputs: Self) -> Self {
        self.parts.insert(name.into(), inputs);
        self
    }

    /// The part of this name.
    pub(super) fn get_part(&self, name: &str) -> Result<&Self> {
        self.parts.get(name).ok_or_else(|| {
            Error::argument(format!("there is no part `{name}` among the inputs"))
                .expected(format!("one of {:?}", self.parts.keys().collect::<Vec<_>>()))
                .remedy(format!("add it: `Inputs::new().part({name:?}, Inputs::new().preds(&preds))`"))
        })
    }

    /// The values for `metric`, detached.
    pub(super) fn get_values(&self, metric: &str) -> Result<Tensor> {
        Ok(found(&self.values, metric, "values")?.detach())
    }

    /// Predictions and targets for `metric`, detached.
    pub(super) fn get_pair(&self, metric: &str) -> Result<(Tensor, Tensor)> {
        let (preds, target) = self.get_tracked_pair(metric)?;
        Ok((preds.detach(), target.detach()))
    }

    /// Predictions and targets for `loss`, not detached.
    pub(super) fn get_tracked_pair(&self, loss: &str) -> Result<(&Tensor, &Tensor)> {
        Ok((found(&self.preds, loss, "preds")?, found(&self.target, loss, "target")?))
    }

    /// The weighted sum of `values`, and the sum of the weights.
    pub(super) fn weighted_sum(&self, metric: &str, values: &Tensor) -> Result<(f64, f64)> {
        let total =
            |x: &Tensor| -> Result<f64> { Ok(to_host(&x.sum_all()?)?.to_dtype(DType::F64)?.to_scalar()?) };
        let values = values.to_dtype(sum_dtype(values))?;
        match self.weight(metric, &values)? {
            None => Ok((total(&values)?, values.elem_count() as f64)),
            Some(weight) => Ok((total(&(&values * &weight)?)?, total(&weight)?)),
        }
    }

    /// The weight of each of `values`, if any.
    pub(super) fn weight(&self, metric: &str, values: &Tensor) -> Result<Option<Tensor>> {
        let Some(weight) = &self.sample_weight else { return Ok(None) };
        let fits = weight.dims().iter().zip(values.dims()).all(|(w, v)| w == v || *w == 1);
        if weight.rank() > values.rank() || !fits {
            return Err(Error::shape(format!(
                "`{metric}` got a `sample_weight` that does not fit its values"
            ))
            .expected(format!("the first dimensions of {:?}, or size 1 instead", values.dims()))
            .found(format!("{:?}", weight.dims())));
        }
        let aligned = [weight.dims(), &vec![1; values.rank() - weight.rank()]].concat();
        let weight =
            transfer(&weight.detach(), values.device(), "make the weights on the device of the values")?;
        let weight = weight.to_dtype(values.dtype())?.reshape(aligned)?;
        Ok(Some(weight.broadcast_as(values.shape())?.contiguous()?))
    }
}

fn found<'t>(tensor: &'t Option<Tensor>, metric: &str, name: &str) -> Result<&'t Tensor> {
    tensor.as_ref().ok_or_else(|| {
        Error::argument(format!("`{metric}` got no `{name}`"))
            .expected(format!("`{name}` among its inputs"))
            .remedy(format!("write `Inputs::new().{name}(&{name})`"))
    })
}

/// `F64` where the device supports it: sums over an epoch need its precision.
pub(super) fn sum_dtype(x: &Tensor) -> DType {
    if x.device().is_metal() { DType::F32 } else { DType::F64 }
}
