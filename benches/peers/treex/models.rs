//! A convolutional network and a transformer, in idiomatic treex.

use candle_core::{DType, Tensor};
use treex_nn::{
    BatchNorm, Conv, Dropout, Embed, Flatten, LayerNorm, Linear, MultiHeadDotProductAttention, Padding, add,
    gelu, initializers, max_pool, prelude::*, relu,
};

#[derive(Clone, Debug, TreeObject)]
pub(crate) struct Cnn {
    conv_0: Conv,
    norm_0: BatchNorm,
    conv_1: Conv,
    norm_1: BatchNorm,
    dense_0: Linear,
    dropout: Dropout,
    dense_1: Linear,
}

impl Cnn {
    /// For images of 28 by 28 pixels.
    pub(crate) fn new(rate: f64) -> Self {
        Self {
            conv_0: Conv::new(1, 32, [3, 3]),
            norm_0: BatchNorm::new(32),
            conv_1: Conv::new(32, 64, [3, 3]),
            norm_1: BatchNorm::new(64),
            dense_0: Linear::new(7 * 7 * 64, 128),
            dropout: Dropout::new(rate),
            dense_1: Linear::new(128, 10),
        }
    }
}

impl Module for Cnn {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = relu(&self.norm_0.call(&self.conv_0.call(x)?)?)?;
        let x = max_pool(&x, [2, 2], 2, Padding::Valid)?;
        let x = relu(&self.norm_1.call(&self.conv_1.call(&x)?)?)?;
        let x = Flatten.call(&max_pool(&x, [2, 2], 2, Padding::Valid)?)?;
        let x = relu(&self.dense_0.call(&x)?)?;
        self.dense_1.call(&self.dropout.call(&x)?)
    }
}

#[derive(Clone, Debug, TreeObject)]
struct Block {
    norm_0: LayerNorm,
    attention: MultiHeadDotProductAttention,
    norm_1: LayerNorm,
    dense_0: Linear,
    dense_1: Linear,
}

impl Block {
    fn new() -> Self {
        Self {
            norm_0: LayerNorm::new(256),
            attention: MultiHeadDotProductAttention::new(4, 256),
            norm_1: LayerNorm::new(256),
            dense_0: Linear::new(256, 1024),
            dense_1: Linear::new(1024, 256),
        }
    }
}

impl Module for Block {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = add(x, &self.attention.call(&self.norm_0.call(x)?)?)?;
        let y = gelu(&self.dense_0.call(&self.norm_1.call(&x)?)?)?;
        add(&x, &self.dense_1.call(&y)?)
    }
}

#[derive(Clone, Debug, TreeObject)]
pub(crate) struct Transformer {
    embed: Embed,
    positions: Leaf<Parameter>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Transformer {
    /// For 128 ids below 1000.
    pub(crate) fn new() -> Self {
        Self {
            embed: Embed::new(1000, 256),
            positions: Leaf::param(initializers::normal(0.02), (128, 256), DType::F32),
            blocks: vec![Block::new(), Block::new()],
            norm: LayerNorm::new(256),
            head: Linear::new(256, 1000),
        }
    }
}

impl Module for Transformer {
    fn call(&mut self, ids: &Tensor) -> Result<Tensor> {
        let mut x = add(&self.embed.call(ids)?, &self.positions.get()?)?;
        for block in &mut self.blocks {
            x = block.call(&x)?;
        }
        self.head.call(&self.norm.call(&x)?)
    }
}
