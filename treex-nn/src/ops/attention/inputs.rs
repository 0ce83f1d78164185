//! The sizes of attention, and what is done to its scores and weights.

use candle_core::{DType, Tensor};
use treex_core::device::rounded;
use treex_core::{Error, Key, Result};
use treex_kernels::attention::Sizes;

/// What is done to scores and weights, as tensors that broadcast to `[batch.., heads, query_length, kv_length]`;
/// without gradients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adjustments {
    /// Added to the scores.
    pub(crate) bias: Option<Tensor>,
    /// `U8`: keys are masked where it is 0.
    pub(crate) mask: Option<Tensor>,
    /// Whether query `i` attends to keys 0 to `i` only.
    pub(crate) causal: bool,
    /// Dropout of the weights.
    pub(crate) dropped: Option<Dropped>,
}

/// Dropout of weights: the key of its mask, whose shape broadcasts to that of the scores, the part of the weights that are kept,
/// and their factor.
#[derive(Clone, Debug)]
pub(crate) struct Dropped {
    pub(crate) key: Key,
    pub(crate) shape: Vec<usize>,
    pub(crate) kept: f64,
    pub(crate) scale: f32,
}

impl Adjustments {
    /// With dropout's factor rounded to a type, as the kernels of the CPU round it.
    pub(super) fn rounded_to(&self, dtype: DType) -> Self {
        let rounded = |dropped: &Dropped| Dropped { scale: rounded(dropped.scale, dtype), ..dropped.clone() };
        Self { dropped: self.dropped.as_ref().map(rounded), ..self.clone() }
    }

    /// With the shape of the scores, and the bias in `dtype`.
    pub(super) fn broadcast(&self, dtype: DType, scores: &[usize]) -> Result<Self> {
        let broadcast = |x: &Tensor| -> Result<Tensor> { Ok(x.detach().contiguous()?.broadcast_as(scores)?) };
        let bias = self.bias.as_ref().map(|bias| broadcast(&bias.to_dtype(dtype)?)).transpose()?;
        let mask = self.mask.as_ref().map(broadcast).transpose()?;
        Ok(Self { bias, mask, causal: self.causal, dropped: None })
    }
}

impl Dropped {
    /// `U8` in the shape of the scores, 0 where a weight is dropped, and the factor of the others.
    pub(super) fn mask(&self, scores: &[usize]) -> Result<(Tensor, f32)> {
        let kept = self.key.bernoulli(self.kept, self.shape.as_slice())?;
        Ok((kept.broadcast_as(scores)?, self.scale))
    }
}

/// The batch dimensions, and the sizes that the kernels work with.
pub(super) fn sizes<'a>(query: &'a Tensor, key: &Tensor, value: &Tensor) -> Result<(&'a [usize], Sizes)> {
    let ([batch @ .., queries, heads, depth], [.., keys, kv_heads, _], [.., value_depth]) =
        (query.dims(), key.dims(), value.dims())
    else {
        return Err(Error::shape("attention needs inputs `[batch.., length, heads, depth]`"));
    };
    let sizes = Sizes {
        batch: batch.iter().product(),
        queries: *queries,
        keys: *keys,
        heads: *heads,
        kv_heads: *kv_heads,
        depth: *depth,
        value_depth: *value_depth,
    };
    Ok((batch, sizes))
}
