//! The training steps that are counted: small, since each instruction of their kernels is interpreted.

use treex::nn::{
    BatchNorm, Conv, Dropout, Embed, LayerNorm, Linear, LstmCell, MultiHeadDotProductAttention, Padding, Rnn,
    Rotary, avg_pool, combine_masks, gelu, make_attention_mask, make_causal_mask, max_pool, relu, scatter,
    segment_sum, take_along_axis,
};
use treex::optim::{
    DynamicLossScale, GradientTransformation, adamw, apply_if_finite, chain, clip_by_global_norm, lamb,
    softmax_cross_entropy_with_integer_labels, warmup_cosine,
};
use treex::prelude::*;

/// One training step: its loss, which stays on the device.
pub(crate) type Step = Box<dyn FnMut() -> Result<Tensor>>;

/// A kind of step, by the name that it has in `budgets.txt`.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) on: fn(&Device) -> Result<Step>,
}

/// The models of the table, then what a step may have beside them.
pub(crate) const CASES: &[Case] = &[
    Case { name: "convolution", on: convolution },
    Case { name: "transformer", on: transformer },
    Case { name: "lstm", on: lstm },
    Case { name: "long-sequence", on: long_sequence },
    Case { name: "dropout", on: dropout },
    Case { name: "sequence-lengths", on: sequence_lengths },
    Case { name: "clip-by-global-norm", on: clipped },
    Case { name: "lamb", on: by_norms },
    Case { name: "apply-if-finite", on: if_finite },
    Case { name: "loss-scale", on: loss_scale },
    Case { name: "take-along-axis", on: indexing },
    Case { name: "scatter", on: scattering },
    Case { name: "segment-sum", on: segments },
    Case { name: "rotary-positions", on: rotation },
    Case { name: "decoding", on: decoding },
];

/// Steps of AdamW with a rate that is another one at each.
fn training<M: TreeObject + Clone + 'static>(
    model: M,
    loss: impl Fn(&mut M) -> Result<Tensor> + 'static,
) -> Result<Step> {
    training_with(adamw(warmup_cosine(1e-2, 3, 100)), model, loss)
}

fn training_with<M: TreeObject + Clone + 'static>(
    transformation: impl GradientTransformation + 'static,
    mut model: M,
    loss: impl Fn(&mut M) -> Result<Tensor> + 'static,
) -> Result<Step> {
    let mut optimizer = Optimizer::new(transformation).init(&model)?;
    Ok(Box::new(move || {
        let (loss, grads) = model.value_and_grad(Parameter, &loss)?;
        optimizer.update(&grads, &mut model)?;
        Ok(loss)
    }))
}

/// Numbers that are drawn once, on the host.
pub(crate) fn normal(shape: &[usize], device: &Device) -> Result<Tensor> {
    Ok(Key::from(1).normal(shape, DType::F32)?.to_device(device)?)
}

/// Classes below `classes`.
pub(crate) fn classes(shape: &[usize], classes: u32, device: &Device) -> Result<Tensor> {
    let drawn = (0..shape.iter().product::<usize>() as u32).map(|at| at * at * 7 % 13 % classes);
    Ok(Tensor::from_iter(drawn, &Device::Cpu)?.reshape(shape)?.to_device(device)?)
}

pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(softmax_cross_entropy_with_integer_labels(logits, labels)?.mean_all()?)
}

#[derive(Clone, Debug, TreeObject)]
pub(crate) struct ConvolutionalNet {
    first: Conv,
    norm: BatchNorm,
    second: Conv,
    head: Linear,
}

impl ConvolutionalNet {
    pub(crate) fn new() -> Self {
        Self {
            first: Conv::new(1, 4, [3, 3]).use_bias(false),
            norm: BatchNorm::new(4),
            second: Conv::new(4, 8, [3, 3]).strides([2, 2]),
            head: Linear::new(8, 3),
        }
    }
}

impl Module for ConvolutionalNet {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        let x = relu(&self.norm.call(&self.first.call(x)?)?)?;
        let x = max_pool(&x, [2, 2], [2, 2], Padding::Same)?;
        let x = relu(&self.second.call(&x)?)?;
        let x = avg_pool(&x, [3, 3], [2, 2], Padding::Same, false)?;
        self.head.call(&x.flatten_from(1)?)
    }
}

/// Convolutions, batch norm, both poolings, a dense head.
fn convolution(device: &Device) -> Result<Step> {
    let model = ConvolutionalNet::new().init(42, device)?;
    let (x, labels) = (normal(&[4, 8, 8, 1], device)?, classes(&[4], 3, device)?);
    training(model, move |model| cross_entropy(&model.call(&x)?, &labels))
}

#[derive(Clone, Debug, TreeObject)]
struct Block {
    attention_norm: LayerNorm,
    attention: MultiHeadDotProductAttention,
    dense_norm: LayerNorm,
    wide: Linear,
    narrow: Linear,
}

impl Block {
    fn new(features: usize) -> Self {
        Self {
            attention_norm: LayerNorm::new(features),
            attention: MultiHeadDotProductAttention::new(2, features),
            dense_norm: LayerNorm::new(features),
            wide: Linear::new(features, 2 * features),
            narrow: Linear::new(2 * features, features),
        }
    }

    fn run(&mut self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let normed = self.attention_norm.call(x)?;
        let x = (x + self.attention.call_with(&normed, &normed, &normed, mask)?)?;
        let wide = gelu(&self.wide.call(&self.dense_norm.call(&x)?)?)?;
        Ok((&x + self.narrow.call(&wide)?)?)
    }
}

#[derive(Clone, Debug, TreeObject)]
pub(crate) struct Transformer {
    tokens: Embed,
    positions: Leaf<Parameter>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

/// Tokens of a sequence.
pub(crate) const LENGTH: usize = 12;

impl Transformer {
    pub(crate) fn new(vocabulary: usize, features: usize) -> Self {
        Self {
            tokens: Embed::new(vocabulary, features),
            positions: Leaf::param(treex::nn::initializers::normal(0.02), (LENGTH, features), DType::F32),
            blocks: vec![Block::new(features), Block::new(features)],
            norm: LayerNorm::new(features),
        }
    }

    /// The scores of the token behind each; token 0 is padding, which no position sees.
    pub(crate) fn scores(&mut self, tokens: &Tensor) -> Result<Tensor> {
        let there = tokens.ne(&tokens.zeros_like()?)?;
        let padding = make_attention_mask(&there, &there, Tensor::broadcast_mul, 0)?;
        let mask = combine_masks([&make_causal_mask(tokens, 0)?, &padding])?;
        let mask = mask.ok_or_else(|| Error::argument("there are two masks"))?;
        let mut x = self.tokens.call(tokens)?.broadcast_add(&self.positions.get()?)?;
        for block in &mut self.blocks {
            x = block.run(&x, &mask)?;
        }
        self.tokens.attend(&self.norm.call(&x)?)
    }
}

/// Embedding, two blocks of attention under a causal and a padding mask, layer norm, the embedding's scores.
fn transformer(device: &Device) -> Result<Step> {
    let model = Transformer::new(11, 4).init(42, device)?;
    let tokens = classes(&[2, LENGTH], 11, device)?;
    let labels = classes(&[2, LENGTH], 7, device)?;
    training(model, move |model| cross_entropy(&model.scores(&tokens)?, &labels))
}

/// Attention over so many positions that a tensor of their indices is larger than what Candle keeps on the device by
/// itself: 4096 bytes.
fn long_sequence(device: &Device) -> Result<Step> {
    let model = MultiHeadDotProductAttention::new(1, 1).causal(true).init(42, device)?;
    let x = normal(&[1, 520, 1], device)?;
    training(model, move |attention| Ok(attention.call(&x)?.sqr()?.mean_all()?))
}

#[derive(Clone, Debug, TreeObject)]
pub(crate) struct Recurrent {
    rnn: Rnn<LstmCell>,
    head: Linear,
}

impl Recurrent {
    pub(crate) fn new() -> Self {
        Self { rnn: Rnn::new(LstmCell::new(3, 4)), head: Linear::new(4, 3) }
    }

    pub(crate) fn scores(&mut self, x: &Tensor, lengths: Option<&Tensor>) -> Result<Tensor> {
        let ((_, last), _) = self.rnn.call_with(x, None, lengths)?;
        self.head.call(&last)
    }
}

fn recurrent(device: &Device, lengths: Option<Tensor>) -> Result<Step> {
    let model = Recurrent::new().init(42, device)?;
    let (x, labels) = (normal(&[2, 5, 3], device)?, classes(&[2], 3, device)?);
    training(model, move |model| cross_entropy(&model.scores(&x, lengths.as_ref())?, &labels))
}

/// An LSTM over sequences of one length.
fn lstm(device: &Device) -> Result<Step> {
    recurrent(device, None)
}

/// An LSTM over sequences of their own lengths, which are on the device.
fn sequence_lengths(device: &Device) -> Result<Step> {
    recurrent(device, Some(Tensor::new(&[5u32, 3], device)?))
}

/// A dense layer, with what is counted beside it.
fn dense(device: &Device) -> Result<(Linear, Tensor, Tensor)> {
    let model = Linear::new(6, 3).init(42, device)?;
    Ok((model, normal(&[8, 6], device)?, classes(&[8], 3, device)?))
}

fn dropout(device: &Device) -> Result<Step> {
    let (head, x, labels) = dense(device)?;
    let model = (Dropout::new(0.5), head).init(42, device)?;
    training(model, move |(dropout, head)| cross_entropy(&head.call(&dropout.call(&x)?)?, &labels))
}

fn clipped(device: &Device) -> Result<Step> {
    let (model, x, labels) = dense(device)?;
    let transformation = chain((clip_by_global_norm(0.1), adamw(1e-2)));
    training_with(transformation, model, move |model| cross_entropy(&model.call(&x)?, &labels))
}

/// An optimizer whose step of a leaf depends on norms of the leaf.
fn by_norms(device: &Device) -> Result<Step> {
    let (model, x, labels) = dense(device)?;
    training_with(lamb(1e-2), model, move |model| cross_entropy(&model.call(&x)?, &labels))
}

fn if_finite(device: &Device) -> Result<Step> {
    let (model, x, labels) = dense(device)?;
    let transformation = apply_if_finite(adamw(1e-2), 3);
    training_with(transformation, model, move |model| cross_entropy(&model.call(&x)?, &labels))
}

fn loss_scale(device: &Device) -> Result<Step> {
    let (mut model, x, labels) = dense(device)?;
    let mut optimizer = Optimizer::new(adamw(1e-2)).init(&model)?;
    let mut scale = DynamicLossScale::new()?;
    Ok(Box::new(move || {
        let (loss, grads) = model
            .value_and_grad(Parameter, |model| scale.scale(&cross_entropy(&model.call(&x)?, &labels)?))?;
        if let Some(grads) = scale.unscale(&grads)? {
            optimizer.update(&grads, &mut model)?;
        }
        Ok(loss)
    }))
}

fn indexing(device: &Device) -> Result<Step> {
    let (model, x, labels) = dense(device)?;
    let labels = labels.unsqueeze(1)?;
    training(model, move |model| Ok(take_along_axis(&model.call(&x)?, &labels, 1)?.sqr()?.mean_all()?))
}

fn scattering(device: &Device) -> Result<Step> {
    let (model, x, labels) = dense(device)?;
    let (labels, ones) = (labels.unsqueeze(1)?, Tensor::ones((8, 1), DType::F32, device)?);
    training(model, move |model| Ok(scatter(&model.call(&x)?, &labels, &ones, 1)?.sqr()?.mean_all()?))
}

fn segments(device: &Device) -> Result<Step> {
    let (model, x, labels) = dense(device)?;
    training(model, move |model| Ok(segment_sum(&model.call(&x)?, &labels, 3)?.sqr()?.mean_all()?))
}

/// Queries at positions of their own, as of sequences that are padded on the left.
fn rotation(device: &Device) -> Result<Step> {
    let (model, x, positions) = dense(device)?;
    let positions = positions.unsqueeze(0)?;
    training(model, move |model| {
        let queries = model.call(&x)?.reshape((1, 8, 1, 3))?;
        Ok(Rotary::new().features(2).apply_at(&queries, &positions)?.sqr()?.mean_all()?)
    })
}

/// A token of a decoder that keeps the keys and values of those before. It is no training step.
fn decoding(device: &Device) -> Result<Step> {
    let mut attention = MultiHeadDotProductAttention::new(2, 4).init(42, device)?.into_eval();
    attention.init_cache(&[1], 16)?;
    let token = normal(&[1, 1, 4], device)?;
    Ok(Box::new(move || Ok(attention.call(&token)?.sum_all()?)))
}
