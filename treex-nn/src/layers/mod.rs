//! The layers: one file or folder for each family.

pub(crate) mod attention;
mod batch_apply;
pub(crate) mod convolution;
mod dense_general;
mod dropout;
mod einsum;
mod embed;
mod flatten;
mod lambda;
mod linear;
mod mlp;
pub(crate) mod norm;
mod options;
mod prelu;
mod recurrent;
mod remat;
mod scan_blocks;
mod sequential;

pub use attention::{KvCache, MultiHeadAttention, MultiHeadDotProductAttention, SelfAttention};
pub use batch_apply::BatchApply;
pub use convolution::{Conv, ConvLocal, ConvTranspose};
pub use dense_general::DenseGeneral;
pub use dropout::Dropout;
pub use einsum::Einsum;
pub use embed::Embed;
pub use flatten::Flatten;
pub use lambda::Lambda;
pub use linear::{Dense, Linear};
pub use mlp::Mlp;
pub use norm::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm, SpectralNorm, WeightNorm};
pub use prelu::PRelu;
pub use recurrent::{
    Bidirectional, Carry, ConvLstmCell, GruCell, LstmCell, MguCell, OptimizedLstmCell, Rnn, RnnCell,
    SimpleCell,
};
pub use remat::Remat;
pub use scan_blocks::ScanBlocks;
pub use sequential::{IntoLayers, IntoModule, Sequential, sequential};
