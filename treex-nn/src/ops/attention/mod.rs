//! Attention without its scores in memory, and its gradient (Dao et al., 2022; Rabe and Staats, 2021).
//!
//! The contract is that of the plain composition in `dot_product_attention.rs`; half types are computed in `f32`
//! from end to end. Heads are read where they lie, in rows of `heads · depth`, and no tensor is transposed.

mod backward;
mod forward;
mod memory;
mod scores;

use std::ops::Range;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use treex_core::autograd::{BackwardContext, Element, Operation, OwnedStorage, attach};
use treex_core::{Error, Result};
use treex_kernels::math::Real;

use backward::Backward;
use forward::{Inputs, Normalizers};
use memory::{View, readable};
use scores::Scores;
use treex_kernels::microkernel::PANEL;

/// Queries of a tile: they, and what belongs to them, stay in a core's first cache.
const QUERIES: usize = 32;

/// Keys of a tile.
const KEYS: usize = 256;

/// Elements from one row of scores to the next: not a power of two, which would map all rows to few places of a cache.
const SCORES_ROW: usize = KEYS + 16;

/// What becomes of scores and weights, as tensors that broadcast to `[batch.., heads, query_length, kv_length]`;
/// without gradients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adjustments {
    /// What is added to the scores.
    pub(crate) bias: Option<Tensor>,
    /// `U8`: keys are hidden where it is 0.
    pub(crate) mask: Option<Tensor>,
    /// Whether query number `i` sees keys number 0 to `i` alone.
    pub(crate) causal: bool,
    /// `U8`, 0 where a weight is dropped, and the factor of the others.
    pub(crate) kept: Option<(Tensor, f32)>,
}

/// `softmax(query · keyᵀ / √depth) · value` for each head, of tensors of one element type whose shapes fit. `None`
/// where there is no kernel: elsewhere than on the host, for other types, and where there is nothing to compute.
pub(crate) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    adjustments: &Adjustments,
) -> Result<Option<Tensor>> {
    let is_empty = [query, key, value].iter().any(|x| x.elem_count() == 0);
    if is_empty || !query.device().is_cpu() {
        return Ok(None);
    }
    Ok(Some(match query.dtype() {
        DType::BF16 => forward::<bf16>(query, key, value, adjustments)?,
        DType::F16 => forward::<f16>(query, key, value, adjustments)?,
        DType::F32 => forward::<f32>(query, key, value, adjustments)?,
        DType::F64 => forward::<f64>(query, key, value, adjustments)?,
        _ => return Ok(None),
    }))
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// All dimensions of the batch in one.
    items: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    kv_heads: usize,
    depth: usize,
    value_depth: usize,
}

impl Sizes {
    fn new(query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Self> {
        let last = |x: &Tensor, back: usize| x.dim(x.rank() - back);
        let (queries, heads, depth) = (last(query, 3)?, last(query, 2)?, last(query, 1)?);
        Ok(Self {
            items: query.elem_count() / (queries * heads * depth),
            queries,
            keys: last(key, 3)?,
            heads,
            kv_heads: last(key, 2)?,
            depth,
            value_depth: last(value, 1)?,
        })
    }

    /// Whether it is worth waking other threads.
    fn is_large(&self) -> bool {
        self.items * self.heads * self.queries * self.keys * (self.depth + self.value_depth) >= 1 << 18
    }

    /// What scores are multiplied with.
    fn scale<R: Real>(&self) -> R {
        R::of(1. / (self.depth as f64).sqrt())
    }

    /// The heads of queries that share a head of keys.
    fn group(&self, kv_head: usize) -> Range<usize> {
        let group = self.heads / self.kv_heads;
        kv_head * group..(kv_head + 1) * group
    }

    fn padded_keys(&self) -> usize {
        self.keys.next_multiple_of(PANEL)
    }

    fn width(&self) -> usize {
        self.depth.next_multiple_of(PANEL)
    }

    fn value_width(&self) -> usize {
        self.value_depth.next_multiple_of(PANEL)
    }
}

fn forward<T: Element>(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    adjustments: &Adjustments,
) -> Result<Tensor> {
    let sizes = Sizes::new(query, key, value)?;
    let scores =
        [query.dims().get(..query.rank() - 3).unwrap_or_default(), &[sizes.heads, sizes.queries, sizes.keys]];
    let mut attention = Attention::<T> {
        query: readable(query)?,
        key: readable(key)?,
        value: readable(value)?,
        adjustments: adjustments.readable(T::DTYPE, &scores.concat())?,
        sizes,
        normalizers: Vec::new(),
    };
    let (y, normalizers) = attention.with_inputs(|inputs| inputs.forward())?;
    attention.normalizers = normalizers;
    let mut dims = query.dims().to_vec();
    dims.truncate(query.rank() - 1);
    dims.push(sizes.value_depth);
    attach(attention, &[query, key, value], OwnedStorage::new(y, dims)?)
}

impl Adjustments {
    /// With the shape of the scores, and the bias in `dtype`.
    fn readable(&self, dtype: DType, scores: &[usize]) -> Result<Self> {
        let grid = |x: &Tensor| -> Result<Tensor> { Ok(x.detach().contiguous()?.broadcast_as(scores)?) };
        Ok(Self {
            bias: self.bias.as_ref().map(|bias| grid(&bias.to_dtype(dtype)?)).transpose()?,
            mask: self.mask.as_ref().map(grid).transpose()?,
            causal: self.causal,
            kept: self
                .kept
                .as_ref()
                .map(|(kept, scale)| Ok::<_, Error>((grid(kept)?, *scale)))
                .transpose()?,
        })
    }
}

/// What backward needs: all that forward had.
struct Attention<T: Element> {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    adjustments: Adjustments,
    sizes: Sizes,
    normalizers: Normalizers<T::Wide>,
}

impl<T: Element> Attention<T> {
    /// Runs `f` on the memory of the inputs.
    fn with_inputs<R>(&self, f: impl FnOnce(Inputs<'_, T>) -> Result<R>) -> Result<R> {
        let Self { adjustments: Adjustments { bias, mask, causal, kept }, .. } = self;
        let [query, key, value] = [&self.query, &self.key, &self.value].map(Tensor::storage_and_layout);
        let bias = bias.as_ref().map(Tensor::storage_and_layout);
        let mask = mask.as_ref().map(Tensor::storage_and_layout);
        let kept = kept.as_ref().map(|(kept, scale)| (kept.storage_and_layout(), *scale));
        let lowest = if T::DTYPE == DType::F64 { f64::MIN } else { f32::MIN.into() };
        f(Inputs {
            sizes: self.sizes,
            query: View::new(&query.0, query.1)?,
            key: View::new(&key.0, key.1)?,
            value: View::new(&value.0, value.1)?,
            scores: Scores {
                bias: bias.as_ref().map(|(storage, layout)| View::new(storage, layout)).transpose()?,
                mask: mask.as_ref().map(|(storage, layout)| View::new(storage, layout)).transpose()?,
                causal: *causal,
                kept: match &kept {
                    Some(((storage, layout), scale)) => {
                        Some((View::new(storage, layout)?, T::from_f64((*scale).into()).widen()))
                    }
                    None => None,
                },
                hidden: T::Wide::of(lowest),
            },
        })
    }
}

impl<T: Element> Operation for Attention<T> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn saves_outputs(&self) -> bool {
        true
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let (y, dy) = (readable(cx.output()?)?, readable(cx.cotangent()?)?);
        let wanted = [0, 1, 2].map(|input| cx.wanted(input));
        let gradients = self.with_inputs(|inputs| {
            let ((y, y_layout), (dy, dy_layout)) = (y.storage_and_layout(), dy.storage_and_layout());
            let (y, dy) = (View::new(&y, y_layout)?, View::new(&dy, dy_layout)?);
            Backward { inputs, normalizers: &self.normalizers, y, dy, wanted }.run()
        })?;
        let inputs = [&self.query, &self.key, &self.value];
        gradients
            .into_iter()
            .zip(inputs)
            .zip(wanted)
            .map(|((gradient, input), wanted)| {
                let gradient = wanted.then(|| OwnedStorage::new(gradient, input.shape())).transpose()?;
                Ok(gradient.map(OwnedStorage::into_tensor))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
