//! Scaled dot-product attention: weights from queries and keys, and weighted sums of values.

use candle_core::{D, DType, Tensor};
use treex_core::autograd::is_reference;
use treex_core::size::{check_elements, check_size};
use treex_core::{Error, Key, Result, matmul};

use super::masks::{as_mask, causal_mask};
use crate::dtype::common_dtype;
use crate::functional::activations::softmax;
use crate::functional::dropout::{check_rate, dropout};
use crate::ops::add::add;
use crate::ops::attention::{Adjustments, Dropped, attention};

/// The options of [`dot_product_attention`]; `AttentionOptions::default()` has Flax's defaults.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::AttentionOptions;
///
/// let mask = Tensor::new(&[[1u8, 0], [1, 1]], &Device::Cpu)?;
/// let options = AttentionOptions::default().mask(&mask).dropout(0.1, 42);
/// assert!(options.broadcast_dropout && options.bias.is_none());
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AttentionOptions {
    /// Added to the scores; broadcasts to `[batch.., heads, query_length, kv_length]`.
    pub bias: Option<Tensor>,
    /// Hides the keys where it is 0; broadcasts as the bias does. Where all keys are hidden, all have the
    /// same weight.
    pub mask: Option<Tensor>,
    /// Whether query `i` attends to the keys 0 to `i` only, in addition to the mask; default: false. This is
    /// `is_causal` of `jax.nn.dot_product_attention`.
    pub causal: bool,
    /// The dropout rate of the weights, and the key of the mask.
    pub dropout: Option<(f64, Key)>,
    /// Whether the batch and all heads share one dropout mask; default: true.
    pub broadcast_dropout: bool,
    /// Whether to compute the softmax in `F32` and keep its result in `F32`; default: false. The softmax of
    /// half precision is computed in `F32` in any case; without this option its result is rounded back.
    pub force_fp32_for_softmax: bool,
    /// The element type to compute in; default: the smallest that holds all inputs.
    pub dtype: Option<DType>,
}

impl Default for AttentionOptions {
    fn default() -> Self {
        Self {
            bias: None,
            mask: None,
            causal: false,
            dropout: None,
            broadcast_dropout: true,
            force_fp32_for_softmax: false,
            dtype: None,
        }
    }
}

impl AttentionOptions {
    /// With a [`bias`](Self::bias).
    #[must_use]
    pub fn bias(self, bias: &Tensor) -> Self {
        Self { bias: Some(bias.clone()), ..self }
    }

    /// With a [`mask`](Self::mask).
    #[must_use]
    pub fn mask(self, mask: &Tensor) -> Self {
        Self { mask: Some(mask.clone()), ..self }
    }

    /// With a choice of [`causal`](Self::causal).
    #[must_use]
    pub fn causal(self, causal: bool) -> Self {
        Self { causal, ..self }
    }

    /// With [`dropout`](Self::dropout).
    #[must_use]
    pub fn dropout(self, rate: f64, key: impl Into<Key>) -> Self {
        Self { dropout: Some((rate, key.into())), ..self }
    }

    /// With a choice of [`broadcast_dropout`](Self::broadcast_dropout).
    #[must_use]
    pub fn broadcast_dropout(self, broadcast_dropout: bool) -> Self {
        Self { broadcast_dropout, ..self }
    }

    /// With a choice of [`force_fp32_for_softmax`](Self::force_fp32_for_softmax).
    #[must_use]
    pub fn force_fp32_for_softmax(self, force_fp32_for_softmax: bool) -> Self {
        Self { force_fp32_for_softmax, ..self }
    }

    /// With a [`dtype`](Self::dtype).
    #[must_use]
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype: Some(dtype), ..self }
    }
}

/// `softmax(query · keyᵀ / √depth + bias) · value`, for each head: Flax's function of this name (Vaswani et
/// al., 2017).
///
/// Shapes: `query` `[batch.., query_length, heads, depth]`, `key` `[batch.., kv_length, kv_heads, depth]`,
/// `value` `[batch.., kv_length, kv_heads, value_depth]`; the result is
/// `[batch.., query_length, heads, value_depth]`. With fewer heads of keys and values than of queries,
/// `heads / kv_heads` neighbouring query heads share one (grouped-query attention; Ainslie et al., 2023), as
/// in `jax.nn.dot_product_attention`.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{AttentionOptions, dot_product_attention, make_causal_mask};
///
/// let ones = |shape| Tensor::ones(shape, DType::F32, &Device::Cpu);
/// let (query, key, value) = (ones((2, 5, 4, 8))?, ones((2, 5, 2, 8))?, ones((2, 5, 2, 3))?);
/// let mask = make_causal_mask(&Tensor::zeros((2, 5), DType::U32, &Device::Cpu)?, 0)?;
/// let y = dot_product_attention(&query, &key, &value, &AttentionOptions::default().mask(&mask))?;
/// assert_eq!(y.dims(), [2, 5, 4, 3]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit together, or the dropout rate is not from 0 to 1.
pub fn dot_product_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    options: &AttentionOptions,
) -> Result<Tensor> {
    match fused(query, key, value, options)? {
        Some(y) => Ok(y),
        None => Ok(attention_and_weights(query, key, value, options)?.0),
    }
}

/// [`dot_product_attention`] as one fused operation; `None` where it has no kernel for the case.
fn fused(query: &Tensor, key: &Tensor, value: &Tensor, options: &AttentionOptions) -> Result<Option<Tensor>> {
    let dtype = common_dtype(options.dtype, [query, key, value]);
    let is_constant = |bias: &Tensor| {
        let fits = bias.dtype() == dtype || bias.dtype().size_in_bytes() < dtype.size_in_bytes();
        fits && !bias.track_op()
    };
    let rounds = options.force_fp32_for_softmax && dtype != DType::F32;
    let drops_all = options.dropout.is_some_and(|(rate, _)| rate == 1.);
    if is_reference() || rounds || drops_all || !options.bias.as_ref().is_none_or(is_constant) {
        return Ok(None);
    }
    check_values(key, value)?;
    let scores = check_keys(query, key, options)?;
    let mut dropped = None;
    if let Some((rate, key)) = options.dropout {
        check_rate("Dropout", rate)?;
        let mut shape = scores.clone();
        if options.broadcast_dropout {
            let shared = shape.len() - 2;
            shape[..shared].fill(1);
        }
        // As in `dropout`, a product with the rounded inverse.
        let kept = 1. - rate;
        dropped = (rate > 0.).then_some(Dropped { key, shape, kept, scale: 1. / kept as f32 });
    }
    let adjustments = Adjustments {
        bias: options.bias.clone(),
        mask: options.mask.as_ref().map(as_mask).transpose()?,
        causal: options.causal,
        dropped,
    };
    attention(&query.to_dtype(dtype)?, &key.to_dtype(dtype)?, &value.to_dtype(dtype)?, &adjustments)
}

/// The weights of [`dot_product_attention`], `[batch.., heads, query_length, kv_length]`, after dropout.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{AttentionOptions, dot_product_attention_weights};
///
/// let query = Tensor::ones((5, 4, 8), DType::F32, &Device::Cpu)?;
/// let weights = dot_product_attention_weights(&query, &query, &AttentionOptions::default())?;
/// assert_eq!(weights.dims(), [4, 5, 5]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`dot_product_attention`].
pub fn dot_product_attention_weights(
    query: &Tensor,
    key: &Tensor,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let dtype = common_dtype(options.dtype, [query, key]);
    dropped(&softmax_weights(query, key, options, dtype)?, options)
}

/// [`dot_product_attention`] as a composition of Candle's operations, and the weights before dropout.
pub(crate) fn attention_and_weights(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    options: &AttentionOptions,
) -> Result<(Tensor, Tensor)> {
    check_values(key, value)?;
    let dtype = common_dtype(options.dtype, [query, key, value]);
    let weights = softmax_weights(query, key, options, dtype)?;
    let y = weighted_sum(&dropped(&weights, options)?, &value.to_dtype(dtype)?)?;
    Ok((y, weights))
}

/// The weights before dropout, computed in `dtype`.
fn softmax_weights(query: &Tensor, key: &Tensor, options: &AttentionOptions, dtype: DType) -> Result<Tensor> {
    let shape = check_keys(query, key, options)?;
    [query, key].iter().try_for_each(|x| check_elements("dot_product_attention", x))?;
    check_size(&shape.clone().into(), dtype)?;
    let (_, queries, heads, depth) = split(query)?;
    let (_, keys, kv_heads, _) = split(key)?;
    let group = heads.checked_div(kv_heads).unwrap_or(1);
    let query = (query.to_dtype(dtype)? / (depth.max(1) as f64).sqrt())?;
    let scores = matmul(&by_head(&query, group)?, &by_head(&key.to_dtype(dtype)?, 1)?.t()?)?;
    let mut scores = scores.reshape(shape)?;
    if let Some(bias) = &options.bias {
        let wide = common_dtype(None, [&scores, bias]);
        scores = add(&scores.to_dtype(wide)?, &bias.to_dtype(wide)?)?;
    }
    let causal = options.causal.then(|| causal_mask(queries, keys, query.device())).transpose()?;
    let mask = options.mask.as_ref().map(as_mask).transpose()?;
    let mask = match (mask, causal) {
        (Some(mask), Some(causal)) => Some(mask.broadcast_mul(&causal)?),
        (mask, causal) => mask.or(causal),
    };
    if let Some(mask) = mask {
        let hidden = (Tensor::zeros((), scores.dtype(), scores.device())? + lowest(dtype))?;
        let hidden = hidden.broadcast_as(scores.shape())?;
        scores = mask.broadcast_as(scores.shape())?.where_cond(&scores, &hidden)?;
    }
    match scores.dtype() {
        _ if options.force_fp32_for_softmax => softmax(&scores.to_dtype(DType::F32)?, D::Minus1),
        DType::F16 | DType::BF16 => Ok(softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?.to_dtype(dtype)?),
        _ => Ok(softmax(&scores, D::Minus1)?.to_dtype(dtype)?),
    }
}

/// `weights` with some of them dropped.
fn dropped(weights: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
    let Some((rate, key)) = options.dropout else { return Ok(weights.clone()) };
    let shared = if options.broadcast_dropout { weights.rank() as isize - 2 } else { 0 };
    dropout(weights, rate, key, &(0..shared).collect::<Vec<_>>())
}

/// `weights`, `[batch.., heads, query_length, kv_length]`, times `value`.
fn weighted_sum(weights: &Tensor, value: &Tensor) -> Result<Tensor> {
    let dtype = common_dtype(None, [weights, value]);
    let (batch, keys, kv_heads, depth) = split(value)?;
    let (heads, queries) = (weights.dim(D::Minus(3))?, weights.dim(D::Minus2)?);
    let items: usize = batch.iter().product();
    let grouped =
        weights.to_dtype(dtype)?.reshape((items * kv_heads, (heads / kv_heads.max(1)) * queries, keys))?;
    let y = matmul(&grouped, &by_head(&value.to_dtype(dtype)?, 1)?)?;
    let y = y.reshape((items, heads, queries, depth))?.transpose(1, 2)?;
    Ok(y.reshape([batch, &[queries, heads, depth]].concat())?)
}

/// `[batch.., length, heads, depth]` as the batch dimensions and the three others.
fn split(x: &Tensor) -> Result<(&[usize], usize, usize, usize)> {
    match x.dims() {
        [batch @ .., length, heads, depth] => Ok((batch, *length, *heads, *depth)),
        other => Err(Error::shape("`dot_product_attention` got an input of the wrong rank")
            .expected("[batch.., length, heads, depth]")
            .found(format!("{other:?}"))),
    }
}

/// `[batch.., length, heads, depth]` as a matrix for each `group` of heads:
/// `[batch · heads / group, group · length, depth]`.
fn by_head(x: &Tensor, group: usize) -> Result<Tensor> {
    let (batch, length, heads, depth) = split(x)?;
    let items: usize = batch.iter().product();
    let x = x.reshape((items, length, heads, depth))?.transpose(1, 2)?;
    Ok(x.reshape((items * heads / group.max(1), group * length, depth))?)
}

/// Checks that each key has a value.
fn check_values(key: &Tensor, value: &Tensor) -> Result<()> {
    let (keys, values) = (split(key)?, split(value)?);
    if (keys.0, keys.1, keys.2) == (values.0, values.1, values.2) {
        return Ok(());
    }
    Err(Error::shape("`dot_product_attention` got values that do not belong to its keys")
        .expected(format!("all but the last dimension of {:?}", key.dims()))
        .found(format!("{:?}", value.dims())))
}

/// Checks that queries, keys, bias and mask fit together; returns the shape of the scores.
fn check_keys(query: &Tensor, key: &Tensor, options: &AttentionOptions) -> Result<Vec<usize>> {
    let (batch, queries, heads, depth) = split(query)?;
    let (kv_batch, keys, kv_heads, kv_depth) = split(key)?;
    let fits = heads == kv_heads || heads > 0 && kv_heads > 0 && heads.is_multiple_of(kv_heads);
    if !fits || kv_batch != batch || kv_depth != depth {
        return Err(Error::shape("`dot_product_attention` got keys that do not fit its queries")
            .expected(format!("{batch:?} batch dimensions, a divisor of {heads} heads, and depth {depth}"))
            .found(format!("{:?} for queries {:?}", key.dims(), query.dims())));
    }
    let scores = [batch, &[heads, queries, keys]].concat();
    for (what, x) in [("bias", &options.bias), ("mask", &options.mask)] {
        let Some(dims) = x.as_ref().map(Tensor::dims) else { continue };
        let pairs = dims.iter().rev().zip(scores.iter().rev());
        if dims.len() > scores.len() || pairs.into_iter().any(|(&a, &b)| a != b && a != 1) {
            return Err(Error::shape(format!("`dot_product_attention` got a {what} of the wrong shape"))
                .expected(format!(
                    "one that broadcasts to [batch.., heads, query_length, kv_length], here {scores:?}"
                ))
                .found(format!("{dims:?}")));
        }
    }
    Ok(scores)
}

/// The lowest finite number: with minus infinity, a softmax over hidden keys alone would be NaN.
fn lowest(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => -65504.,
        DType::BF16 => -3.389_531_389_251_535_5e38,
        DType::F64 => f64::MIN,
        _ => f64::from(f32::MIN),
    }
}
