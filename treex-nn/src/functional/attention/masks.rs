//! Attention masks: which query sees which key.
//!
//! A mask is a tensor of `U8`, 1 where a query sees a key and 0 where it does not, that broadcasts to
//! `[batch.., heads, query_length, kv_length]`.

use candle_core::{D, DType, Device, Tensor};
use treex_core::constants::arange;
use treex_core::{Error, Result};

/// A mask from one entry for each position: 1 where `pairwise_fn` of the query's and the key's entry is not
/// 0. `[batch.., query_length]` and `[batch.., kv_length]` give `[batch.., 1, query_length, kv_length]`, with
/// `extra_batch_dims` dimensions of size 1 before them. Flax's default for `pairwise_fn` is the product,
/// which hides padding.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::make_attention_mask;
///
/// let tokens = Tensor::new(&[[7u32, 3, 0], [5, 0, 0]], &Device::Cpu)?; // 0 is padding
/// let there = tokens.ne(0u32)?;
/// let mask = make_attention_mask(&there, &there, Tensor::broadcast_mul, 0)?;
/// assert_eq!(mask.dims(), [2, 1, 3, 3]);
/// assert_eq!(mask.get(0)?.get(0)?.to_vec2::<u8>()?, [[1, 1, 0], [1, 1, 0], [0, 0, 0]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If an input is a scalar, or `pairwise_fn` does not return `[batch.., query_length, kv_length]`.
pub fn make_attention_mask(
    query_input: &Tensor,
    key_input: &Tensor,
    pairwise_fn: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    extra_batch_dims: usize,
) -> Result<Tensor> {
    let (queries, keys) = (length(query_input)?, length(key_input)?);
    let pairs = pairwise_fn(&query_input.unsqueeze(D::Minus1)?, &key_input.unsqueeze(key_input.rank() - 1)?)?;
    if !pairs.dims().ends_with(&[queries, keys]) {
        return Err(Error::shape("`make_attention_mask` got a `pairwise_fn` that does not make pairs")
            .expected(format!("[.., {queries}, {keys}]"))
            .found(format!("{:?}", pairs.dims()))
            .remedy("give one that broadcasts: `Tensor::broadcast_mul`"));
    }
    let mask = as_mask(&pairs)?.unsqueeze(pairs.rank() - 2)?;
    with_leading_ones(&mask, extra_batch_dims)
}

/// The mask by which a position sees itself and the positions before it: `[batch.., length]` gives
/// `[batch.., 1, length, length]`, with `extra_batch_dims` dimensions of size 1 before them. Only the shape
/// of `x` matters.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::make_causal_mask;
///
/// let tokens = Tensor::zeros((2, 3), DType::U32, &Device::Cpu)?;
/// let mask = make_causal_mask(&tokens, 0)?;
/// assert_eq!(mask.dims(), [2, 1, 3, 3]);
/// assert_eq!(mask.get(1)?.get(0)?.to_vec2::<u8>()?, [[1, 0, 0], [1, 1, 0], [1, 1, 1]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If `x` is a scalar.
pub fn make_causal_mask(x: &Tensor, extra_batch_dims: usize) -> Result<Tensor> {
    let positions = arange(length(x)?, x.device())?;
    let positions = positions.broadcast_as(x.shape())?;
    make_attention_mask(&positions, &positions, Tensor::broadcast_ge, extra_batch_dims)
}

/// One mask that hides what any of `masks` hides; `None` without masks. Masks of any element type hide where
/// they are 0; they have the same rank and broadcast.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_nn::combine_masks;
///
/// let a = Tensor::new(&[[1u8, 1, 0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[1u8], [0]], &Device::Cpu)?;
/// let both = combine_masks([&a, &b])?.unwrap();
/// assert_eq!(both.to_vec2::<u8>()?, [[1, 1, 0], [0, 0, 0]]);
/// assert!(combine_masks([None, None])?.is_none());
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the masks differ in rank or do not broadcast.
pub fn combine_masks<'t, M: Into<Option<&'t Tensor>>>(
    masks: impl IntoIterator<Item = M>,
) -> Result<Option<Tensor>> {
    let mut combined: Option<Tensor> = None;
    for mask in masks.into_iter().filter_map(Into::into) {
        let mask = as_mask(mask)?;
        combined = Some(match combined {
            None => mask,
            Some(before) if before.rank() == mask.rank() => before.broadcast_mul(&mask)?,
            Some(before) => {
                return Err(Error::shape("`combine_masks` got masks of different ranks")
                    .expected(format!("rank {} as of {:?}", before.rank(), before.dims()))
                    .found(format!("{:?}", mask.dims())));
            }
        });
    }
    Ok(combined)
}

/// `[queries, keys]`: 1 where the key's position is at most the query's.
pub(super) fn causal_mask(queries: usize, keys: usize, device: &Device) -> Result<Tensor> {
    Ok(arange(queries, device)?.unsqueeze(1)?.broadcast_ge(&arange(keys, device)?)?)
}

/// 1 where `x` is not 0.
pub(crate) fn as_mask(x: &Tensor) -> Result<Tensor> {
    Ok(x.ne(&x.zeros_like()?)?.to_dtype(DType::U8)?)
}

/// The number of positions of `x`.
/// Candle's operations have no more dimensions.
const MAX_RANK: usize = 8;

fn length(x: &Tensor) -> Result<usize> {
    x.dims().last().copied().ok_or_else(|| {
        Error::shape("a mask cannot be made from a scalar").expected("[batch.., length]").found("[]")
    })
}

fn with_leading_ones(x: &Tensor, count: usize) -> Result<Tensor> {
    if count > MAX_RANK {
        return Err(Error::argument("a mask has too many dimensions")
            .expected(format!("at most {MAX_RANK} batch dimensions before it"))
            .found(count));
    }
    Ok(x.reshape([&vec![1; count], x.dims()].concat())?)
}

#[cfg(test)]
mod tests {
    use treex_core::ErrorKind;

    use super::*;

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn errors() {
        let product = Tensor::broadcast_mul;
        let cases = [
            (
                make_attention_mask(&zeros(&[]), &zeros(&[2]), product, 0).unwrap_err(),
                "a mask cannot be made from a scalar: expected [batch.., length], found []",
            ),
            (
                make_attention_mask(&zeros(&[2, 3]), &zeros(&[2, 4]), |q, _| Ok(q.clone()), 0).unwrap_err(),
                "expected [.., 3, 4], found [2, 3, 1]; give one that broadcasts",
            ),
            (make_causal_mask(&zeros(&[]), 0).unwrap_err(), "found []"),
            (
                combine_masks([&zeros(&[2, 3]), &zeros(&[3])]).unwrap_err(),
                "masks of different ranks: expected rank 2 as of [2, 3], found [3]",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.kind(), ErrorKind::Shape, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
        assert!(combine_masks([&zeros(&[2, 3]), &zeros(&[2, 4])]).is_err());
    }

    #[test]
    fn empty_inputs() -> Result<()> {
        assert_eq!(make_causal_mask(&zeros(&[2, 0]), 1)?.dims(), [1, 2, 1, 0, 0]);
        Ok(())
    }
}
