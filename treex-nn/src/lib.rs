//! Flax Linen's layers as trees for Candle.
//!
//! A layer is a plain struct: its parameters and its state are fields, named and shaped as in Flax, its
//! options have Flax's defaults, and `init_linen` gives Flax's weights for the same seed. A model is a struct of layers:
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use treex_nn::{BatchNorm, Conv, Dropout, Linear, prelude::*, relu};
//!
//! #[derive(Clone, Debug, TreeObject)]
//! struct Net {
//!     conv: Conv,
//!     norm: BatchNorm,
//!     dropout: Dropout,
//!     head: Linear,
//! }
//!
//! impl Module for Net {
//!     fn call(&mut self, x: &Tensor) -> Result<Tensor> {
//!         let x = relu(&self.norm.call(&self.conv.call(x)?)?)?;
//!         let x = self.dropout.call(&x.flatten_from(1)?)?;
//!         self.head.call(&x)
//!     }
//! }
//!
//! let net = Net {
//!     conv: Conv::new(1, 8, [3, 3]).strides(2).use_bias(false),
//!     norm: BatchNorm::new(8),
//!     dropout: Dropout::new(0.2),
//!     head: Linear::new(4 * 4 * 8, 10),
//! };
//! let mut net = net.init(42, &Device::Cpu)?;
//! let images = Tensor::ones((2, 8, 8, 1), DType::F32, &Device::Cpu)?;
//! assert_eq!(net.call(&images)?.dims(), [2, 10]);
//!
//! let labels = Tensor::new(&[3u32, 7], &Device::Cpu)?;
//! let (loss, grads) = net.value_and_grad(Parameter, |net| {
//!     let log_probs = treex_nn::log_softmax(&net.call(&images)?, 1)?;
//!     Ok(log_probs.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?.neg()?)
//! })?;
//! assert!(loss.to_scalar::<f32>()? > 0.);
//! assert_eq!(grads.conv.kernel.get()?.dims(), [3, 3, 1, 8]);
//! # Ok::<(), treex_nn::prelude::Error>(())
//! ```
//!
//! All layers:
//!
//! - Channels come last. The dimensions before those that a layer uses are batch dimensions, of any number.
//! - A builder's methods can be called in any order, before `init`: they declare the parameters again.
//! - A layer without state is a [`candle_core::Module`], hence a [`Module`](prelude::Module).
//! - Input and parameters may differ in element type. The result has the smallest type that holds both, as in
//!   Flax; the option `dtype` overrides it.
//!
//! # Lazy layers
//!
//! `new` takes the sizes of the input, `lazy` does not: the layer takes them from the first input that
//! [`init_with`](treex_core::Tree::init_with) or [`inferred`](treex_core::Tree::inferred) calls it with, as
//! PyTorch's lazy modules do.
//!
//! ```
//! # use candle_core::{DType, Device, Tensor};
//! # use treex_nn::{BatchNorm, Conv, Linear, Sequential, prelude::*, relu};
//! let x = Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?;
//! let net = Sequential::new().add(Conv::lazy(8, [3])).add(BatchNorm::lazy()).add_fn(relu).add(Linear::lazy(4));
//! assert_eq!(net.init_with(42, &x)?.call(&x)?.dims(), [2, 5, 4]);
//! # Ok::<(), Error>(())
//! ```
//!
//! # Calls
//!
//! - `call` takes one tensor and returns one, in every layer.
//! - `call_with` takes further inputs, and returns further outputs: the mask of a normalization; queries, keys,
//!   values and mask of attention; carry and lengths of a recurrent layer; the equation of an [`Einsum`].
//! - `call_inner` of a wrapper takes a closure that calls the module inside: [`SpectralNorm`], [`WeightNorm`],
//!   [`BatchApply`].
//! - A recurrent cell makes one [`step`](RnnCell::step); [`Embed::attend`] is Flax's second call of a table.
//! - Of functions, `_where` takes a mask and `_with` takes options: [`softmax_where`], [`standardize_with`].
//!
//! # Names
//!
//! Names are spelled as in Rust ([`Rnn`], [`LstmCell`], [`RmsNorm`]); Flax's spelling is an alias (`RNN`,
//! `LSTMCell`, `RMSNorm`). The [`prelude`] has traits and types of trees, no layer and no function, so a glob
//! import of it does not clash. treex-optim has a `Flatten`, an `identity` and a `normalize` too: import
//! these by name from one crate, or write `treex_nn::Flatten`.

#![forbid(unsafe_code)]

mod axes;
mod dtype;
pub mod from_flax;
mod functional;
pub mod initializers;
mod layers;
pub mod metrics;
#[doc(hidden)]
pub mod ops;
mod spatial;
mod var_builder;

// Linear layers and embeddings.
pub use layers::{Dense, DenseGeneral, Einsum, Embed, Linear, Mlp};
// Convolutions, and options of their windows.
pub use layers::{Conv, ConvLocal, ConvTranspose};
pub use spatial::{Padding, Sizes};
// Normalization.
pub use axes::Axes;
pub use layers::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm, SpectralNorm, WeightNorm};
// Attention.
pub use functional::attention::{
    AttentionOptions, Rotary, combine_masks, dot_product_attention, dot_product_attention_weights,
    make_attention_mask, make_causal_mask,
};
pub use layers::{KvCache, MultiHeadAttention, MultiHeadDotProductAttention, SelfAttention};
// Recurrent networks.
pub use layers::{
    Bidirectional, Carry, ConvLstmCell, GruCell, LstmCell, MguCell, OptimizedLstmCell, Rnn, RnnCell,
    SimpleCell,
};
// Flax's spelling of the names above.
pub use layers::{
    ConvLstmCell as ConvLSTMCell, GruCell as GRUCell, LstmCell as LSTMCell, MguCell as MGUCell,
    OptimizedLstmCell as OptimizedLSTMCell, RmsNorm as RMSNorm, Rnn as RNN,
};
// Dropout, containers and wrappers.
pub use functional::dropout::dropout;
pub use layers::{
    BatchApply, Dropout, Flatten, IntoLayers, IntoModule, Lambda, PRelu, Remat, ScanBlocks, Sequential,
    sequential,
};
// Activations.
pub use functional::activations::{
    self, StandardizeOptions, celu, celu_with, elu, elu_with, gelu, gelu_with, glu, hard_sigmoid, hard_silu,
    hard_swish, hard_tanh, identity, leaky_relu, leaky_relu_with, log_sigmoid, log_softmax,
    log_softmax_where, log1mexp, logmeanexp, logmeanexp_where, logsumexp, logsumexp_with, mish, normalize,
    one_hot, relu, relu6, selu, sigmoid, silu, soft_sign, softmax, softmax_where, softplus, sparse_plus,
    sparse_sigmoid, squareplus, squareplus_with, standardize, standardize_with, swish, tanh,
};
// Pooling and regularization.
pub use functional::indexing::{scatter, scatter_add, segment_sum, sort, take_along_axis, top_k};
pub use functional::pooling::{self, avg_pool, max_pool, min_pool, pool};
pub use functional::regularizers;
pub use functional::resize::{ResizeMethod, resize, resize_with};
// Tensor operations.
pub use ops::add::add;
pub use ops::einsum::einsum;
pub use ops::vdot::vdot;
// Initializers, and import of weights.
pub use initializers::{
    glorot_normal, glorot_uniform, he_normal, he_uniform, kaiming_normal, kaiming_uniform, lecun_normal,
    lecun_uniform, variance_scaling, xavier_normal, xavier_uniform,
};
pub use var_builder::load_var_builder;

pub use candle_core as candle; // its types are part of this API
pub use treex_core; // the derive names it in a crate that depends on this one alone

/// The traits and types that a program with layers needs: `use treex_nn::prelude::*`.
pub mod prelude {
    pub use treex_core::prelude::*;
    pub use treex_core::{
        BatchStat, Cache, Error, Initializer, Intermediate, Key, Kind, Leaf, Mode, OptState, Parameter,
        Result, Rng, State, TreePart, kind,
    };
}
