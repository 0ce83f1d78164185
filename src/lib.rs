#![doc = include_str!("../README.md")]

pub use treex_core::*;
pub use treex_nn as nn;
pub use treex_optim as optim;

/// What almost every program uses: `use treex::prelude::*`.
///
/// The traits, the derive, the kinds, filters, keys and errors of the tree, [`Optimizer`](crate::optim::Optimizer), and
/// Candle's `Tensor`, `Device` and `DType`. Layers and transformations stay in [`nn`](crate::nn) and
/// [`optim`](crate::optim), which have some names in common.
pub mod prelude {
    pub use treex_core::candle::{DType, Device, Tensor};
    pub use treex_core::prelude::*;
    pub use treex_core::{
        BatchStat, Cache, Error, Initializer, Intermediate, Key, Kind, Leaf, MetricState, Mode, OptState,
        Parameter, Result, Rng, State, TreePart, by, exactly, kind, path,
    };
    pub use treex_optim::Optimizer;
}
