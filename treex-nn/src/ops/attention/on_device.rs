//! The same operation on a device: products by its library, and one launch for what is between them.
//!
//! Scores exist for some heads at a time, and backward computes them again, so that memory is bounded.

use candle_core::Tensor;
use treex_core::Result;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach};
use treex_core::device::attention::{Adjustments, Block, Dropout, attention_gradient, attention_weights};
use treex_core::matmul::product;
use treex_core::random::Bernoulli;
use treex_kernels::attention::Sizes;

use super::inputs::{self, sizes};

/// Scores of a block, unless one head of keys has more.
const MOST_SCORES: usize = 1 << 26;

/// Attention of tensors with elements.
pub(super) fn attention(inputs: [&Tensor; 3], adjustments: &inputs::Adjustments) -> Result<Tensor> {
    let [query, key, value] = inputs;
    let (batch, sizes) = sizes(query, key, value)?;
    let Sizes { batch: examples, queries, keys, heads, kv_heads, depth, value_depth } = sizes;
    let shape = [examples, heads, queries, keys];
    let whole = [batch, &shape[1..]].concat();
    let broadcast = |x: &Tensor| -> Result<Tensor> {
        let x = x.detach().broadcast_as(whole.as_slice())?;
        // Examples in one dimension, without a copy where they have one stride.
        Ok(if batch.len() == 1 { x } else { x.reshape(&shape)? })
    };
    let operation = Attention {
        query: by_head(query, [examples, queries, heads, depth], kv_heads)?,
        key: by_head(key, [examples, keys, kv_heads, depth], kv_heads)?,
        value: by_head(value, [examples, keys, kv_heads, value_depth], kv_heads)?,
        adjustments: Adjustments {
            scale: 1. / (depth as f64).sqrt(),
            bias: adjustments
                .bias
                .as_ref()
                .map(|bias| broadcast(&bias.to_dtype(query.dtype())?))
                .transpose()?,
            mask: adjustments.mask.as_ref().map(broadcast).transpose()?,
            causal: adjustments.causal,
            dropout: adjustments.dropped.as_ref().map(|dropped| Dropout {
                key: dropped.key,
                kept: Bernoulli::new(dropped.kept as f32),
                scale: dropped.scale,
                is_shared: dropped.shape.iter().rev().skip(2).all(|&size| size == 1),
            }),
        },
        shape,
        shapes: inputs.map(|input| input.dims().to_vec()),
    };
    let y = operation.value()?;
    let dims = [batch, &[queries, heads, value_depth]].concat();
    attach(operation, &inputs, by_position(&y, [examples, queries, heads, value_depth], dims)?)
}

/// `[examples, length, heads, depth]` as `[examples * kv_heads, group * length, depth]`, where a group of heads shares keys.
fn by_head(x: &Tensor, [examples, length, heads, depth]: [usize; 4], kv_heads: usize) -> Result<Tensor> {
    let by_head = x.detach().reshape((examples, length, heads, depth))?.transpose(1, 2)?.contiguous()?;
    Ok(by_head.reshape((examples * kv_heads, heads / kv_heads * length, depth))?)
}

/// `[examples * heads, length, depth]` in any grouping, as `[examples, length, heads, depth]` in these dimensions.
fn by_position(x: &Tensor, shape: [usize; 4], dims: Vec<usize>) -> Result<OwnedStorage> {
    let [examples, length, heads, depth] = shape;
    let y = OwnedStorage::take(x.reshape((examples, heads, length, depth))?.transpose(1, 2)?)?;
    y.reshape(dims)
}

struct Attention {
    /// By head, as the others.
    query: Tensor,
    key: Tensor,
    value: Tensor,
    adjustments: Adjustments,
    /// `[examples, heads, queries, keys]`.
    shape: [usize; 4],
    /// Those of query, key and value.
    shapes: [Vec<usize>; 3],
}

impl Attention {
    /// Runs `f` on each block of heads of keys: its first one, and the tensors of these heads.
    fn blocks<R>(&self, mut f: impl FnMut(Block, [Tensor; 3]) -> Result<R>) -> Result<Vec<R>> {
        let (count, rows, _) = self.query.dims3()?;
        let [_, heads, queries, keys] = self.shape;
        let at_once = (MOST_SCORES / (rows * keys)).clamp(1, count);
        let group = rows / queries;
        debug_assert!(heads.is_multiple_of(group));
        let block = |first: usize| {
            let len = at_once.min(count - first);
            let part = |x: &Tensor| x.narrow(0, first, len);
            let parts = [part(&self.query)?, part(&self.key)?, part(&self.value)?];
            f(Block { shape: self.shape, first: first * group }, parts)
        };
        (0..count).step_by(at_once).map(block).collect()
    }

    /// The weights of a block, before and after dropout.
    fn weights(&self, block: Block, query: &Tensor, key: &Tensor) -> Result<(Tensor, Tensor)> {
        let scores = product(query, &key.t()?)?.into_tensor();
        let (weights, dropped) = attention_weights(&scores, block, &self.adjustments)?;
        let dropped = dropped.unwrap_or_else(|| weights.clone());
        Ok((weights, dropped))
    }

    fn value(&self) -> Result<Tensor> {
        let y = self.blocks(|block, [query, key, value]| {
            let (_, weights) = self.weights(block, &query, &key)?;
            Ok(product(&weights, &value)?.into_tensor())
        })?;
        joined(y)
    }
}

/// The blocks of a tensor.
fn joined(blocks: Vec<Tensor>) -> Result<Tensor> {
    match <[Tensor; 1]>::try_from(blocks) {
        Ok([block]) => Ok(block),
        Err(blocks) => Ok(Tensor::cat(&blocks, 0)?),
    }
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let [examples, heads, queries, keys] = self.shape;
        let (count, _, depth) = self.query.dims3()?;
        let value_depth = self.value.dim(2)?;
        let kv_heads = count / examples;
        let dy = by_head(cx.cotangent()?, [examples, queries, heads, value_depth], kv_heads)?;
        let group = heads / kv_heads;
        let gradients = self.blocks(|block, [query, key, value]| {
            let dy = dy.narrow(0, block.first / group, query.dim(0)?)?;
            let (weights, dropped) = self.weights(block, &query, &key)?;
            let dvalue = cx.wanted(2).then(|| product(&dropped.t()?, &dy)).transpose()?;
            let of_scores = || -> Result<_> {
                let dweights = product(&dy, &value.t()?)?.into_tensor();
                attention_gradient(&weights, &dweights, block, &self.adjustments)
            };
            let dscores = (cx.wanted(0) || cx.wanted(1)).then(of_scores).transpose()?;
            let times = |wanted: bool, f: &dyn Fn(&Tensor) -> Result<OwnedStorage>| {
                dscores.as_ref().filter(|_| wanted).map(f).transpose()
            };
            let dquery = times(cx.wanted(0), &|dscores| product(dscores, &key))?;
            let dkey = times(cx.wanted(1), &|dscores| product(&dscores.t()?, &query))?;
            Ok([dquery, dkey, dvalue].map(|gradient| gradient.map(OwnedStorage::into_tensor)))
        })?;
        let layouts = [
            [examples, heads, queries, depth],
            [examples, kv_heads, keys, depth],
            [examples, kv_heads, keys, value_depth],
        ];
        let gradient = |index: usize| -> Result<Option<Tensor>> {
            let blocks: Option<Vec<_>> = gradients.iter().map(|block| block[index].clone()).collect();
            let Some(blocks) = blocks.filter(|_| cx.wanted(index)) else { return Ok(None) };
            let whole = joined(blocks)?.reshape(&layouts[index])?.transpose(1, 2)?.contiguous()?;
            Ok(Some(whole.reshape(self.shapes[index].as_slice())?))
        };
        Ok(vec![gradient(0)?, gradient(1)?, gradient(2)?])
    }
}
