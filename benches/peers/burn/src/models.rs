//! The models, of Burn's own layers.

use burn::module::Param;
use burn::nn::activation::ActivationConfig;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::nn::{BatchNorm, Dropout, DropoutConfig, Embedding, EmbeddingConfig, LayerNorm, Linear, Relu};
use burn::prelude::*;

use crate::serve::Result;
use crate::weights::{EPSILON, Tensors};

#[derive(Module, Debug)]
pub(crate) struct Mlp {
    layers: [Linear; 3],
    activation: Relu,
}

impl Mlp {
    pub(crate) fn new(weights: &Tensors) -> Result<Self> {
        let [first, second, third] = [0, 1, 2].map(|i| weights.linear(&format!("layers.{i}")));
        Ok(Self { layers: [first?, second?, third?], activation: Relu::new() })
    }

    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.activation.forward(self.layers[0].forward(x));
        let x = self.activation.forward(self.layers[1].forward(x));
        self.layers[2].forward(x)
    }
}

#[derive(Module, Debug)]
pub(crate) struct Cnn {
    convolutions: [Conv2d; 2],
    norms: [BatchNorm; 2],
    pool: MaxPool2d,
    dense: [Linear; 2],
    dropout: Dropout,
    activation: Relu,
}

impl Cnn {
    pub(crate) fn new(weights: &Tensors, rate: f64) -> Result<Self> {
        // Channels come first here: so do they in what the dense layer gets.
        let kernel = weights.floats::<2>("dense_0.kernel")?.reshape([7, 7, 64, 128]);
        let kernel = kernel.permute([2, 0, 1, 3]).reshape([7 * 7 * 64, 128]);
        Ok(Self {
            convolutions: [weights.convolution("conv_0")?, weights.convolution("conv_1")?],
            norms: [weights.batch_norm("norm_0")?, weights.batch_norm("norm_1")?],
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            dense: [weights.linear_of(kernel, weights.floats("dense_0.bias")?), weights.linear("dense_1")?],
            dropout: DropoutConfig::new(rate).init(),
            activation: Relu::new(),
        })
    }

    pub(crate) fn forward(&self, mut x: Tensor<4>) -> Tensor<2> {
        for (convolution, norm) in self.convolutions.iter().zip(&self.norms) {
            x = self.pool.forward(self.activation.forward(norm.forward(convolution.forward(x))));
        }
        let x = self.activation.forward(self.dense[0].forward(x.flatten(1, 3)));
        self.dense[1].forward(self.dropout.forward(x))
    }
}

#[derive(Module, Debug)]
pub(crate) struct Transformer {
    embed: Embedding,
    positions: Param<Tensor<2>>,
    blocks: TransformerEncoder,
    norm: LayerNorm,
    head: Linear,
}

impl Transformer {
    pub(crate) fn new(weights: &Tensors) -> Result<Self> {
        let mut embed = EmbeddingConfig::new(1000, 256).init(&weights.device);
        embed.weight = weights.parameter("embed.embedding")?;
        let config = TransformerEncoderConfig::new(256, 1024, 4, 2)
            .with_dropout(0.)
            .with_norm_first(true)
            .with_activation(ActivationConfig::GeluApproximate)
            .with_layer_norm_eps(EPSILON);
        let mut blocks = config.init(&weights.device);
        for (i, block) in blocks.layers.iter_mut().enumerate() {
            let linear = |part: &str| weights.linear(&format!("blocks.{i}.{part}"));
            let norm = |part: &str| weights.layer_norm(&format!("blocks.{i}.{part}"));
            block.mha.query = linear("attention.query")?;
            block.mha.key = linear("attention.key")?;
            block.mha.value = linear("attention.value")?;
            block.mha.output = linear("attention.out")?;
            block.pwff.linear_inner = linear("dense_0")?;
            block.pwff.linear_outer = linear("dense_1")?;
            // Where norms come first, the first is Burn's second.
            block.norm_2 = norm("norm_0")?;
            block.norm_1 = norm("norm_1")?;
        }
        Ok(Self {
            embed,
            positions: weights.parameter("positions")?,
            blocks,
            norm: weights.layer_norm("norm")?,
            head: weights.linear("head")?,
        })
    }

    pub(crate) fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let x = self.embed.forward(ids) + self.positions.val().unsqueeze();
        self.head.forward(self.norm.forward(self.blocks.forward(TransformerEncoderInput::new(x))))
    }
}
