//! Flax Linen's layers as trees for Candle.
//!
//! A layer is a plain struct: its parameters and its state are fields, named and shaped as in Flax, its
//! options have Flax's defaults, and the same seed gives Flax's weights. A model is a struct of layers:
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
//! What every layer has in common:
//!
//! - Channels come last. Dimensions before those that a layer works on are batch dimensions, any number of
//!   them.
//! - A builder's methods can come in any order, and come before `init`: they declare the parameters anew.
//! - A layer without state is a [`candle_core::Module`], hence a [`Module`](prelude::Module).
//! - Input and parameters may differ in element type; the result has the smallest type that holds both, as
//!   in Flax, unless `dtype` says otherwise.

pub mod activations;
mod attention;
mod axes;
mod batch_apply;
mod conv;
mod conv_local;
mod conv_transpose;
#[cfg(feature = "cuda")]
pub mod cuda;
mod dense_general;
mod dropout;
mod dtype;
mod einsum;
mod embed;
mod flatten;
pub mod from_flax;
pub mod initializers;
mod lambda;
mod linear;
pub mod metrics;
mod mlp;
mod norm;
#[doc(hidden)]
pub mod ops;
mod options;
mod padding;
pub mod pooling;
mod prelu;
mod recurrent;
pub mod regularizers;
mod remat;
mod scan_blocks;
mod sequential;
mod sizes;
mod var_builder;
mod window;

pub use activations::{
    Standardize, celu, elu, gelu, glu, hard_sigmoid, hard_silu, hard_swish, hard_tanh, identity, leaky_relu,
    log_sigmoid, log_softmax, log_softmax_where, log1mexp, logmeanexp, logmeanexp_where, logsumexp,
    logsumexp_with, mish, normalize, one_hot, relu, relu6, selu, sigmoid, silu, soft_sign, softmax,
    softmax_where, softplus, sparse_plus, sparse_sigmoid, squareplus, standardize, standardize_with, swish,
    tanh,
};
pub use attention::{
    AttentionOptions, KvCache, MultiHeadAttention, MultiHeadDotProductAttention, Rotary, SelfAttention,
    combine_masks, dot_product_attention, dot_product_attention_weights, make_attention_mask,
    make_causal_mask,
};
pub use axes::Axes;
pub use batch_apply::BatchApply;
pub use candle_core as candle; // its types are part of this API
pub use conv::Conv;
pub use conv_local::ConvLocal;
pub use conv_transpose::ConvTranspose;
pub use dense_general::DenseGeneral;
pub use dropout::{Dropout, dropout};
pub use einsum::Einsum;
pub use embed::Embed;
pub use flatten::Flatten;
pub use initializers::{
    glorot_normal, glorot_uniform, he_normal, he_uniform, kaiming_normal, kaiming_uniform, lecun_normal,
    lecun_uniform, variance_scaling, xavier_normal, xavier_uniform,
};
pub use lambda::Lambda;
pub use linear::{Dense, Linear};
pub use mlp::Mlp;
pub use norm::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm, SpectralNorm, WeightNorm};
pub use ops::add::add;
pub use ops::einsum::einsum;
pub use ops::vdot::vdot;
pub use padding::Padding;
pub use pooling::{avg_pool, max_pool, min_pool, pool};
pub use prelu::PRelu;
pub use recurrent::{
    Bidirectional, Carry, ConvLSTMCell, GRUCell, LSTMCell, MGUCell, OptimizedLSTMCell, RNN, RnnCell,
    SimpleCell,
};
pub use remat::Remat;
pub use scan_blocks::ScanBlocks;
pub use sequential::{IntoLayers, IntoModule, Sequential, sequential};
pub use sizes::Sizes;
pub use var_builder::load_var_builder;

pub use treex_core; // the derive names it in a crate that depends on this one alone

/// What a program with layers uses all the time: `use treex_nn::prelude::*`.
pub mod prelude {
    pub use treex_core::prelude::*;
    pub use treex_core::{
        BatchStat, Cache, Error, Initializer, Intermediate, Key, Kind, Leaf, Mode, OptState, Parameter,
        Result, Rng, State, TreePart, kind,
    };
}
