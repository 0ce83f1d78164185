#![doc = include_str!("../README.md")]

#[doc(inline)]
pub use treex_core::*;
#[doc(inline)]
pub use treex_nn as nn;
#[doc(inline)]
pub use treex_optim as optim;

/// What almost every program uses: `use treex::prelude::*`.
///
/// The traits, the derive, the kinds, filters, keys and errors of the tree, [`Optimizer`](optim::Optimizer), and
/// Candle's `Tensor`, `Device` and `DType`. Layers and transformations stay in [`nn`] and
/// [`optim`], which have some names in common.
pub mod prelude {
    #[doc(no_inline)]
    pub use treex_core::candle::{DType, Device, Tensor};
    #[doc(no_inline)]
    pub use treex_core::prelude::*;
    #[doc(no_inline)]
    pub use treex_core::{
        BatchStat, Cache, Error, Initializer, Intermediate, Key, Kind, Leaf, MetricState, Mode, OptState,
        Parameter, Result, Rng, State, TreePart, by, exactly, kind, path,
    };
    #[doc(no_inline)]
    pub use treex_optim::Optimizer;
}
