//! Auxiliary losses and metrics that layers report of their last call.

use std::collections::BTreeMap;

use candle_core::Tensor;
use treex_core::{Error, Kind, KindTag, Result, Segment, Tree, TreeObject, TreePart, kind};

use super::Mean;
use super::losses::loss_name;
use super::named::{Logs, accumulate, compute, merge, reset, sum, unique};

kind!(
    /// A value that a layer reports of its last call. Written by the layer with `Leaf::new`, so that
    /// gradients flow through it until the gradient's closure ends.
    pub Log: TreePart
);
kind!(
    /// A scalar to add to the loss, such as an activity penalty: collected by [`AuxLosses`].
    pub LossLog: Log
);
kind!(
    /// A number to log: collected by [`AuxMetrics`].
    pub MetricLog: Log
);

/// The auxiliary losses of a model's layers, leaves of kind [`LossLog`]: their sum to add to the loss, and
/// the mean of each over the batches. treex's `AuxLosses`.
///
/// A loss has the name of its field or its key, with the suffix `_loss` if it does not end in `loss`; a
/// repeated name gets a number, 2 for the second. A layer writes it with `Leaf::new`, which keeps it tracked,
/// not with `set`, which does not. Losses of a module inside of `Remat`, `Rnn` or `ScanBlocks` have no
/// gradient.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Linear, metrics::{AuxLosses, LossLog}, prelude::*};
///
/// #[derive(Clone, Debug, TreeObject)]
/// struct Active {
///     linear: Linear,
///     activity: Leaf<LossLog>,
/// }
///
/// impl Module for Active {
///     fn call(&mut self, x: &Tensor) -> Result<Tensor> {
///         let y = self.linear.call(x)?;
///         self.activity = Leaf::new((y.sqr()?.mean_all()? * 0.1)?)?;
///         Ok(y)
///     }
/// }
///
/// let model = Active { linear: Linear::new(3, 2), activity: Leaf::nothing() };
/// let mut model = model.init(42, &Device::Cpu)?;
/// let mut aux_losses = AuxLosses::new();
/// let x = Tensor::ones((4, 3), DType::F32, &Device::Cpu)?;
/// let (loss, grads) = model.value_and_grad(Parameter, |model| {
///     let loss = model.call(&x)?.sum_all()?;
///     let (aux_loss, logs) = aux_losses.call(model)?;
///     assert_eq!(logs.keys().collect::<Vec<_>>(), ["activity_loss"]);
///     Ok((loss + aux_loss)?)
/// })?;
/// assert_eq!((loss.dims(), grads.linear.kernel.get()?.dims()), (&[][..], &[3, 2][..]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default, TreeObject)]
pub struct AuxLosses {
    /// In the order of their names; each over the batches in which it occurred.
    pub means: BTreeMap<String, Mean>,
}

impl AuxLosses {
    /// Without names, which the first call adds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The auxiliary losses of a model after its call: their sum, through which gradients flow, and each as a
    /// number. They are accumulated into the means; nothing changes on an error.
    ///
    /// # Errors
    /// If a loss is not a scalar.
    pub fn call(&mut self, model: &impl Tree) -> Result<(Tensor, Logs)> {
        let losses = values_of_kind(model, LossLog, |name| loss_name(name.unwrap_or("aux")));
        if let Some((name, loss)) = losses.iter().find(|(_, loss)| loss.rank() != 0) {
            return Err(Error::shape(format!("the auxiliary loss `{name}` is not a scalar"))
                .expected("shape []")
                .found(format!("{:?}", loss.dims()))
                .remedy("reduce it, for instance with `loss.mean_all()?`"));
        }
        let logs = accumulate(&mut self.means, "AuxLosses", &losses)?;
        Ok((sum(&losses)?, logs))
    }

    /// The sum of the means, and the mean of each loss, over all batches since the last reset.
    ///
    /// # Errors
    /// If the state was filtered out.
    pub fn compute(&self) -> Result<(Tensor, Logs)> {
        let logs = compute(&self.means)?;
        Ok((sum(&logs)?, logs))
    }
}

/// The auxiliary metrics of a model's layers, leaves of kind [`MetricLog`], and the mean of each over the
/// batches. treex's `AuxMetrics`.
///
/// A metric has the name of its field or its key; a repeated name gets a number, 2 for the second. All values
/// of a leaf count.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{metrics::{AuxMetrics, MetricLog}, prelude::*, relu};
///
/// #[derive(Clone, Debug, TreeObject)]
/// struct Relu {
///     active: Leaf<MetricLog>,
/// }
///
/// impl Module for Relu {
///     fn call(&mut self, x: &Tensor) -> Result<Tensor> {
///         self.active.set(x.gt(0f64)?.to_dtype(DType::F32)?.mean_all()?)?;
///         relu(x)
///     }
/// }
///
/// let mut layer = Relu { active: Leaf::nothing() };
/// let mut aux_metrics = AuxMetrics::new();
/// for x in [[-1f32, 1., 2., 3.], [-1., -1., -1., 1.]] {
///     layer.call(&Tensor::new(&x, &Device::Cpu)?)?;
///     aux_metrics.call(&layer)?;
/// }
/// assert_eq!(aux_metrics.compute()?["active"].to_scalar::<f64>()?, 0.5);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default, TreeObject)]
pub struct AuxMetrics {
    /// In the order of their names; each over the batches in which it occurred.
    pub means: BTreeMap<String, Mean>,
}

impl AuxMetrics {
    /// Without names, which the first call adds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The auxiliary metrics of a model after its call, which are accumulated into the means.
    ///
    /// # Errors
    /// Any error of Candle.
    pub fn call(&mut self, model: &impl Tree) -> Result<Logs> {
        let values = values_of_kind(model, MetricLog, |name| name.unwrap_or("aux_metric").to_owned());
        accumulate(&mut self.means, "AuxMetrics", &values)
    }

    /// The mean of each over all batches since the last reset.
    ///
    /// # Errors
    /// If the state was filtered out.
    pub fn compute(&self) -> Result<Logs> {
        compute(&self.means)
    }
}

macro_rules! means {
    ($($name:ident)*) => {$(
        impl $name {
            /// Resets all means; the names stay.
            ///
            /// # Errors
            /// Any error of Candle.
            pub fn reset(&mut self) -> Result<()> {
                reset(&mut self.means)
            }

            /// Adds the state of `other`.
            ///
            /// # Errors
            /// Any error of Candle.
            pub fn merge(&mut self, other: &Self) -> Result<()> {
                merge(&mut self.means, &other.means)
            }
        }
    )*};
}

means!(AuxLosses AuxMetrics);

/// The tracked values of the leaves of kind `K`; `name` makes their names from that of the field or key.
fn values_of_kind<K: Kind>(model: &impl Tree, _: K, name: impl Fn(Option<&str>) -> String) -> Logs {
    let leaves = model.flatten();
    let mut logs = Logs::new();
    for (index, leaf) in leaves.iter().enumerate() {
        let Some(value) = leaves.get(index).filter(|_| leaf.kind().is(KindTag::of::<K>())) else { continue };
        let own = leaves.path(index).iter().rev().find_map(|segment| match segment {
            Segment::Field(field) => Some(*field),
            Segment::Key(key) => Some(&**key),
            Segment::Index(_) => None,
        });
        logs.insert(unique(&name(own), |name| logs.contains_key(name)), value.clone());
    }
    logs
}
