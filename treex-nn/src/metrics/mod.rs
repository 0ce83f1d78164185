//! Metrics: values accumulated over many batches, as trees of kind [`MetricState`](treex_core::MetricState).
//!
//! A metric observes batch by batch and is computed at the end of an epoch. Its state is part of the tree, so
//! it is saved, cloned and filtered like all state; it is kept on the host, in sums of `F64` and counts of
//! `I64`.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use treex_nn::metrics::{Accuracy, Inputs, Mean, Metrics};
//!
//! let mut metrics = Metrics::new().add("accuracy", Accuracy::multiclass(3)).add("loss", Mean::new());
//! for labels in [[0u32, 2], [1, 1]] {
//!     let logits = Tensor::new(&[[2f32, 0., 1.], [0., 3., 1.]], &Device::Cpu)?;
//!     let losses = Tensor::new(&[0.5f32, 1.5], &Device::Cpu)?;
//!     let labels = Tensor::new(&labels, &Device::Cpu)?;
//!     let batch = metrics.call(&Inputs::new().preds(&logits).target(&labels).values(&losses))?;
//!     assert_eq!(batch["accuracy"].to_scalar::<f64>()?, 0.5); // of this batch
//! }
//! let epoch = metrics.compute()?;
//! assert_eq!(epoch["accuracy"].to_scalar::<f64>()?, 0.5); // of all batches
//! assert_eq!(epoch["loss"].to_scalar::<f64>()?, 1.);
//! metrics.reset()?;
//! # Ok::<(), treex_nn::treex_core::Error>(())
//! ```
//!
//! From treex in Python:
//!
//! | treex | here |
//! |---|---|
//! | `metric(preds=.., target=..)` | `metric.call(&Inputs::new().preds(&preds).target(&target))?` |
//! | `metric.update(..)` | `metric.observe(&inputs)?`, since `update` is a verb over trees |
//! | `Metric(on="digits")` | [`On::new("digits", metric)`](On), of the [`part`](Inputs::part) of this name |
//! | `Reduce("sum")`, `"weighted_mean"`, `"sum_over_batch_size"` | [`Sum`], [`Mean`], [`Mean::sum_over_batch_size`] |
//! | `Metrics({"a": .., "b": ..})` | [`Metrics`]`::new().add("a", ..).add("b", ..)`; names are given, not derived from types |
//! | `Losses`, `AuxLosses`, `AuxMetrics`, `LossAndLogs` | [`Losses`], [`AuxLosses`], [`AuxMetrics`], [`LossAndLogs`] |
//! | `x: LossLog.node()`, `MetricLog.node()` | `x: Leaf<`[`LossLog`]`>`, `Leaf<`[`MetricLog`]`>` |
//! | `Named("a", x)` | a `BTreeMap` of leaves with the key `a` |

mod accuracy;
mod auxiliary;
mod collection;
mod error;
mod inputs;
mod loss_and_logs;
mod losses;
mod metric;
mod named;
mod on;
mod reduce;
mod state;

pub use accuracy::{Accuracy, Average};
pub use auxiliary::{AuxLosses, AuxMetrics, Log, LossLog, MetricLog};
pub use collection::Metrics;
pub use error::{MeanAbsoluteError, MeanSquaredError};
pub use inputs::Inputs;
pub use loss_and_logs::LossAndLogs;
pub use losses::Losses;
pub use metric::Metric;
pub use named::Logs;
pub use on::On;
pub use reduce::{Mean, Sum};

/// Short name.
pub type Mae = MeanAbsoluteError;
/// Short name.
pub type Mse = MeanSquaredError;
