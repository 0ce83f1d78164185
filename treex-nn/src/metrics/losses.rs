//! Named losses: their sum, and their means.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use treex_core::{Result, TreeObject};

use super::named::{Logs, accumulate, compute, merge, reset, same_names, sum, unique};
use super::{Inputs, Mean};
use crate::dtype::wide_dtype;

/// Losses by name: `Σ mean(weight · loss(preds, target))` for training, and the mean of each over the
/// batches.
///
/// A loss is a function of predictions and targets, and its values are averaged; a scalar stays as it is. Add
/// a `Loss` of treex-optim as `move |preds, target| loss.call(preds, target)`. treex's `Losses`, with names
/// that end in `loss`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::metrics::{Inputs, Losses};
/// use treex_nn::{Linear, prelude::*};
///
/// let mut model = Linear::new(3, 2).init(42, &Device::Cpu)?;
/// let x = Tensor::ones((4, 3), DType::F32, &Device::Cpu)?;
/// let y = Tensor::zeros((4, 2), DType::F32, &Device::Cpu)?;
/// let mut losses = Losses::new()
///     .add("squared", |preds, target| Ok((preds - target)?.sqr()?))
///     .add("sum_loss", |preds, target| Ok(((preds - target)?.sum_all()? * 0.1)?));
/// let (loss, grads) = model.value_and_grad(Parameter, |model| {
///     let (loss, logs) = losses.call(&Inputs::new().preds(&model.call(&x)?).target(&y))?;
///     assert_eq!(logs.keys().collect::<Vec<_>>(), ["squared_loss", "sum_loss"]);
///     Ok(loss)
/// })?;
/// assert_eq!(grads.kernel.get()?.dims(), [3, 2]);
///
/// // At the end of an epoch, the means over its batches.
/// let (mean, _) = losses.compute()?;
/// assert!((mean.to_scalar::<f64>()? - f64::from(loss.to_scalar::<f32>()?)).abs() < 1e-6);
/// losses.reset()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default, TreeObject)]
pub struct Losses {
    /// In the order of their names; each batch counts once.
    pub means: BTreeMap<String, Mean>,
    #[tree(skip)]
    losses: BTreeMap<String, Loss>,
}

/// A function, and the part of the inputs that it takes.
#[derive(Clone)]
struct Loss {
    on: Option<String>,
    function: Arc<Function>,
}

type Function = dyn Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync;

impl fmt::Debug for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loss")
    }
}

impl Losses {
    /// An empty collection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a loss. A name that does not end in `loss` gets the suffix `_loss`; a repeated name gets a
    /// number: `loss`, `loss2`.
    #[must_use]
    pub fn add<F>(self, name: impl AsRef<str>, loss: F) -> Self
    where
        F: Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.with(name.as_ref(), Loss { on: None, function: Arc::new(loss) })
    }

    /// Adds a loss of the [`part`](Inputs::part) of the inputs that has the name `part`.
    #[must_use]
    pub fn add_on<F>(self, part: impl Into<String>, name: impl AsRef<str>, loss: F) -> Self
    where
        F: Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
    {
        self.with(name.as_ref(), Loss { on: Some(part.into()), function: Arc::new(loss) })
    }

    fn with(mut self, name: &str, loss: Loss) -> Self {
        let name = unique(&loss_name(name), |name| self.losses.contains_key(name));
        self.means.insert(name.clone(), Mean::new());
        self.losses.insert(name, loss);
        self
    }

    /// The losses of a batch: their sum, through which gradients flow, and each as a number. They are
    /// accumulated into the means; nothing changes on an error.
    ///
    /// # Errors
    /// If an input is missing, or the weights do not fit the losses; any error of a loss function.
    pub fn call(&mut self, inputs: &Inputs) -> Result<(Tensor, Logs)> {
        let reduced = self.losses.iter().map(|(name, loss)| Ok((name.clone(), loss.reduced(name, inputs)?)));
        let reduced = reduced.collect::<Result<Logs>>()?;
        let logs = accumulate(&mut self.means, "Losses", &reduced)?;
        Ok((sum(&reduced)?, logs))
    }

    /// The sum of the means, and the mean of each loss, over all batches since the last reset.
    ///
    /// # Errors
    /// If the state was filtered out.
    pub fn compute(&self) -> Result<(Tensor, Logs)> {
        let logs = compute(&self.means)?;
        Ok((sum(&logs)?, logs))
    }

    /// Resets the state to that of no batches.
    ///
    /// # Errors
    /// Any error of Candle.
    pub fn reset(&mut self) -> Result<()> {
        reset(&mut self.means)
    }

    /// Adds the state of `other`.
    ///
    /// # Errors
    /// If `other` has other losses.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        same_names("losses", self.means.keys(), other.means.keys())?;
        merge(&mut self.means, &other.means)
    }
}

impl Loss {
    /// The sum of the weighted losses, divided by their number.
    fn reduced(&self, name: &str, inputs: &Inputs) -> Result<Tensor> {
        let inputs = self.on.as_ref().map_or(Ok(inputs), |part| inputs.get_part(part))?;
        let (preds, target) = inputs.get_tracked_pair(name)?;
        let losses = (self.function)(preds, target)?;
        // A sum in half precision saturates early.
        let losses = losses.to_dtype(wide_dtype(losses.dtype()))?;
        let losses = match inputs.weight(name, &losses)? {
            Some(weight) => (losses * weight)?,
            None => losses,
        };
        Ok(losses.mean_all()?)
    }
}

/// treex's name for a loss.
pub(super) fn loss_name(name: &str) -> String {
    if name.ends_with("loss") { name.to_owned() } else { format!("{name}_loss") }
}
