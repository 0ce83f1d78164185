//! The network: convolutions with batch normalization, dropout, and a dense head.

use candle_core::Tensor;
use treex_core::{Error, Result, prelude::*};
use treex_nn::{BatchNorm, Conv, Dropout, Linear, relu};

/// Convolution, normalization, relu.
#[derive(Clone, Debug, TreeObject)]
pub(crate) struct Block {
    conv: Conv,
    norm: BatchNorm,
}

impl Block {
    fn new(cin: usize, cout: usize, stride: usize) -> Self {
        let conv = Conv::new(cin, cout, [3, 3]).strides([stride, stride]).use_bias(false);
        Self { conv, norm: BatchNorm::new(cout).momentum(0.9) }
    }
}

impl Module for Block {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        relu(&self.norm.call(&self.conv.call(x)?)?)
    }
}

/// Images `[n, side, side, 1]` to logits `[n, classes]`.
#[derive(Clone, Debug, TreeObject)]
pub(crate) struct Net {
    blocks: Vec<Block>,
    dropout: Dropout,
    head: Linear,
}

impl Net {
    /// Strides halve the image until it is 2 to 4 pixels wide.
    pub(crate) fn new(side: usize, classes: usize) -> Self {
        let mut blocks = vec![Block::new(1, 32, 1)];
        let (mut width, mut channels) = (side, 32);
        while width > 3 {
            let wider = (2 * channels).min(128);
            blocks.push(Block::new(channels, wider, 2));
            (width, channels) = (width.div_ceil(2), wider);
        }
        Self { blocks, dropout: Dropout::new(0.3), head: Linear::new(width * width * channels, classes) }
    }
}

impl Module for Net {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        if x.rank() != 4 {
            return Err(Error::shape("the network takes a batch of images")
                .expected("[n, side, side, 1]")
                .found(format!("{:?}", x.dims())));
        }
        for block in &mut self.blocks {
            x = block.call(&x)?;
        }
        self.head.call(&self.dropout.call(&x.flatten_from(1)?)?)
    }
}
