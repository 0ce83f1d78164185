//! Losses as objects: a function, its reduction and its weight.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use candle_core::Tensor;
use treex_core::{Error, Result, TreeObject};

use super::Reduction;

/// A loss function with a reduction, a weight and a path in the outputs: Python treex's `Loss`, for any of
/// the functions here or your own. It is a tree without leaves, so a struct of losses can be a field of a
/// model.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use candle_core::{Device, Tensor};
/// use treex_optim::losses::{Loss, Reduction, huber_loss, squared_error};
///
/// let preds = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let target = Tensor::new(&[[1f32, 2.], [3., 8.]], &Device::Cpu)?;
/// let loss = Loss::new(squared_error).weight(0.5);
/// assert_eq!(loss.call(&preds, &target)?.to_scalar::<f32>()?, 2.);
///
/// // Weighted samples.
/// let sample_weight = Tensor::new(&[1f32, 0.5], &Device::Cpu)?;
/// assert_eq!(loss.call_weighted(&preds, &target, &sample_weight)?.to_scalar::<f32>()?, 1.);
///
/// // One of several outputs.
/// let outputs = |value: &Tensor| BTreeMap::from([("value", value.clone())]);
/// let loss = Loss::new(huber_loss).reduction(Reduction::Sum).on("value");
/// assert_eq!(loss.call(&outputs(&preds), &outputs(&target))?.to_scalar::<f32>()?, 3.5);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, TreeObject)]
pub struct Loss<F: Send + Sync> {
    #[tree(skip)]
    function: F,
    #[tree(skip)]
    reduction: Reduction,
    weight: f64,
    on: Option<String>,
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync> Loss<F> {
    /// The mean of a function of predictions and targets, with weight 1.
    pub fn new(function: F) -> Self {
        Self { function, reduction: Reduction::Mean, weight: 1., on: None }
    }

    /// The reduction of the losses of a batch.
    #[must_use]
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// A factor on the result.
    #[must_use]
    pub fn weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    /// The path of predictions and targets in the arguments of [`call`](Self::call): keys and indices
    /// separated by points, such as `"heads.0"`.
    #[must_use]
    pub fn on(self, path: impl Into<String>) -> Self {
        Self { on: Some(path.into()), ..self }
    }

    /// The reduced loss, times the weight.
    ///
    /// # Errors
    /// The errors of the function, or if the path has no tensor.
    pub fn call<P: Outputs + ?Sized, T: Outputs + ?Sized>(&self, preds: &P, target: &T) -> Result<Tensor> {
        self.reduced(&self.losses(preds, target)?)
    }

    /// [`call`](Self::call) with a weight for each sample, which has the first axes of the losses. The mean
    /// is still over the number of losses, not over the sum of the weights.
    ///
    /// # Errors
    /// As `call`, and if the weights do not fit.
    pub fn call_weighted<P: Outputs + ?Sized, T: Outputs + ?Sized>(
        &self,
        preds: &P,
        target: &T,
        sample_weight: &Tensor,
    ) -> Result<Tensor> {
        let losses = self.losses(preds, target)?;
        if !losses.dims().starts_with(sample_weight.dims()) {
            return Err(Error::shape("the sample weights do not fit the losses")
                .expected(format!("the first axes of {:?}", losses.dims()))
                .found(format!("{:?}", sample_weight.dims())));
        }
        let mut weights = sample_weight.to_dtype(losses.dtype())?;
        while weights.rank() < losses.rank() {
            weights = weights.unsqueeze(weights.rank())?;
        }
        self.reduced(&losses.broadcast_mul(&weights)?)
    }

    fn losses<P: Outputs + ?Sized, T: Outputs + ?Sized>(&self, preds: &P, target: &T) -> Result<Tensor> {
        (self.function)(self.part("predictions", preds)?, self.part("targets", target)?)
    }

    fn reduced(&self, losses: &Tensor) -> Result<Tensor> {
        Ok((self.reduction.reduce(losses)? * self.weight)?)
    }

    fn part<'a, O: Outputs + ?Sized>(&self, what: &str, outputs: &'a O) -> Result<&'a Tensor> {
        let path = self.on.as_deref().unwrap_or_default();
        outputs.at(&mut path.split('.').filter(|segment| !segment.is_empty())).ok_or_else(|| {
            Error::argument(format!("the {what} of `{self:?}` have no tensor at `{path}`"))
                .remedy("`on` takes a path: keys and indices separated by points")
        })
    }
}

impl<F: Send + Sync> fmt::Debug for Loss<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = std::any::type_name::<F>();
        write!(f, "Loss::new({})", name.rsplit("::").next().unwrap_or(name))?;
        if self.reduction != Reduction::Mean {
            write!(f, ".reduction(Reduction::{:?})", self.reduction)?;
        }
        if self.weight != 1. {
            write!(f, ".weight({:?})", self.weight)?;
        }
        self.on.as_ref().map_or(Ok(()), |on| write!(f, ".on({on:?})"))
    }
}

/// A tensor, or nested lists and maps of tensors, for [`Loss::on`].
pub trait Outputs {
    /// The tensor at the remaining path, or `None`.
    fn at(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Tensor>;
}

impl Outputs for Tensor {
    fn at(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Tensor> {
        path.next().is_none().then_some(self)
    }
}

impl<O: Outputs> Outputs for [O] {
    fn at(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Tensor> {
        let index: usize = path.next()?.parse().ok()?;
        self.get(index)?.at(path)
    }
}

impl<O: Outputs> Outputs for Vec<O> {
    fn at(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Tensor> {
        self.as_slice().at(path)
    }
}

impl<O: Outputs, const N: usize> Outputs for [O; N] {
    fn at(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Tensor> {
        self.as_slice().at(path)
    }
}

impl<K: std::borrow::Borrow<str> + Ord, O: Outputs> Outputs for BTreeMap<K, O> {
    fn at(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Tensor> {
        self.get(path.next()?)?.at(path)
    }
}

impl<K: std::borrow::Borrow<str> + Eq + std::hash::Hash, O: Outputs> Outputs for HashMap<K, O> {
    fn at(&self, path: &mut dyn Iterator<Item = &str>) -> Option<&Tensor> {
        self.get(path.next()?)?.at(path)
    }
}
