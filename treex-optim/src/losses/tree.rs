//! Losses as parts of a program: a function, how it reduces, and what it counts.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use candle_core::Tensor;
use treex_core::{Error, Result, TreeObject};

use super::Reduction;

/// A loss function with a reduction, a weight and a place in the outputs: treex's `Loss` in Python, around
/// any of the functions here or one's own. It is a tree without leaves, so a struct of losses can stand in a
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
/// // Samples that count more or less.
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

    /// How the losses of a batch become one.
    #[must_use]
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// What the result is multiplied by.
    #[must_use]
    pub fn weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    /// Where predictions and targets stand in what [`call`](Self::call) gets: keys and indices with points
    /// between them, as in `"heads.0"`.
    #[must_use]
    pub fn on(self, path: impl Into<String>) -> Self {
        Self { on: Some(path.into()), ..self }
    }

    /// The reduced loss, times the weight.
    ///
    /// # Errors
    /// What the function reports, or if there is nothing at the path.
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
                .remedy("`on` says where it stands: keys and indices with points between them")
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

/// A tensor, or lists and maps of such, in which [`Loss::on`] finds one.
pub trait Outputs {
    /// The tensor at the path that is left, or `None`.
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
