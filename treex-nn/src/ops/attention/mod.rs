//! Attention without its scores in memory, as one operation.
//!
//! The reference composition is that of [`crate::dot_product_attention`]; half types are computed in `f32` from end to
//! end.

mod inputs;
mod on_device;

use std::ops::Deref;

use candle_core::{Layout, Storage, Tensor, WithDType};
use treex_core::autograd::{BackwardContext, Element, Operation, OwnedStorage, attach};
use treex_core::device::has_kernels;
use treex_core::{Error, Result, match_float};
use treex_kernels::attention::{self as kernels, Inputs, Modifiers, RowStatistics, Sizes, StridedView};

use self::inputs::sizes;
use crate::dtype::wide_dtype;

pub(crate) use self::inputs::{Adjustments, Dropped};

/// `softmax(query · keyᵀ / √depth) · value` for each head, of tensors of one element type whose shapes fit. `None`
/// where there is no kernel: on other devices than the CPU and CUDA, for other types, and for empty tensors.
pub(crate) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    adjustments: &Adjustments,
) -> Result<Option<Tensor>> {
    let is_empty = [query, key, value].iter().any(|x| x.elem_count() == 0);
    if is_empty || [query, key, value].into_iter().any(|x| !has_kernels(x)) {
        return Ok(None);
    }
    if !query.device().is_cpu() {
        let wide = wide_dtype(query.dtype());
        let [q, k, v] = [query, key, value].map(|x| x.to_dtype(wide));
        let y = on_device::attention([&q?, &k?, &v?], &adjustments.rounded_to(query.dtype()))?;
        return Ok(Some(y.to_dtype(query.dtype())?));
    }
    match_float!(
        query.dtype(),
        T in [f32, f64, bf16, f16] => forward::<T>([query, key, value], adjustments).map(Some),
        else Ok(None)
    )
}

fn forward<T: Element + kernels::Attention>(
    inputs: [&Tensor; 3],
    adjustments: &Adjustments,
) -> Result<Tensor> {
    let [query, key, value] = inputs;
    let (batch, sizes) = sizes(query, key, value)?;
    let scores = [batch, &[sizes.heads, sizes.queries, sizes.keys]].concat();
    let mut attention = Attention::<T> {
        query: contiguous_rows(query)?,
        key: contiguous_rows(key)?,
        value: contiguous_rows(value)?,
        adjustments: adjustments.broadcast(T::DTYPE, &scores)?,
        kept: adjustments.dropped.as_ref().map(|dropped| dropped.mask(&scores)).transpose()?,
        sizes,
        statistics: Vec::new(),
    };
    let (y, statistics) = attention.with_inputs(|inputs| Ok(T::attention(inputs)?))?;
    attention.statistics = statistics;
    let dims = [batch, &[sizes.queries, sizes.heads, sizes.value_depth]].concat();
    attach(attention, &inputs, OwnedStorage::new(y, dims)?)
}

/// `x`, detached; a copy if the elements of a row are apart.
fn contiguous_rows(x: &Tensor) -> Result<Tensor> {
    let x = x.detach();
    Ok(if x.stride().last() == Some(&1) { x } else { x.contiguous()? })
}

/// A tensor's storage, locked for reading.
struct Locked<'a, S>(S, &'a Layout);

fn lock(x: &Tensor) -> Locked<'_, impl Deref<Target = Storage>> {
    let (storage, layout) = x.storage_and_layout();
    Locked(storage, layout)
}

impl<S: Deref<Target = Storage>> Locked<'_, S> {
    /// A tensor `[batch.., i, j, k]`, with its batch dimensions in one.
    fn view<T: WithDType>(&self) -> Result<StridedView<'_, T>> {
        let Self(storage, layout) = self;
        let (Storage::Cpu(storage), [batch @ .., _, _, _], [batch_strides @ .., i, j, k]) =
            (&**storage, layout.dims(), layout.stride())
        else {
            return Err(Error::argument("a kernel of attention needs CPU tensors of at least 3 dimensions"));
        };
        let mut offsets = vec![layout.start_offset()];
        for (&size, &stride) in batch.iter().zip(batch_strides) {
            offsets =
                offsets.iter().flat_map(|&offset| (0..size).map(move |at| offset + at * stride)).collect();
        }
        Ok(StridedView::new(storage.as_slice()?, offsets, [*i, *j, *k]))
    }
}

/// What backward needs: the inputs of forward, and its statistics.
struct Attention<T: Element> {
    query: Tensor,
    key: Tensor,
    value: Tensor,
    adjustments: Adjustments,
    /// Dropout's mask and factor.
    kept: Option<(Tensor, f32)>,
    sizes: Sizes,
    statistics: Vec<RowStatistics<T::Wide>>,
}

impl<T: Element> Attention<T> {
    /// Runs `f` on the memory of the inputs.
    fn with_inputs<R>(&self, f: impl FnOnce(&Inputs<'_, T>) -> Result<R>) -> Result<R> {
        let Adjustments { bias, mask, causal, .. } = &self.adjustments;
        let [query, key, value] = [&self.query, &self.key, &self.value].map(lock);
        let [bias, mask] = [bias, mask].map(|x| x.as_ref().map(lock));
        let kept = self.kept.as_ref().map(|(kept, scale)| (lock(kept), *scale));
        f(&Inputs {
            sizes: self.sizes,
            query: query.view()?,
            key: key.view()?,
            value: value.view()?,
            modifiers: Modifiers {
                bias: bias.as_ref().map(Locked::view).transpose()?,
                mask: mask.as_ref().map(Locked::view).transpose()?,
                causal: *causal,
                dropout: match &kept {
                    Some((kept, scale)) => Some((kept.view()?, *scale)),
                    None => None,
                },
            },
        })
    }
}

impl<T: Element + kernels::Attention> Operation for Attention<T> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn saves_outputs(&self) -> bool {
        true
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let (y, dy) = (contiguous_rows(cx.output()?)?, contiguous_rows(cx.cotangent()?)?);
        let wanted = [0, 1, 2].map(|input| cx.wanted(input));
        let gradients = self.with_inputs(|inputs| {
            let (y, dy) = (lock(&y), lock(&dy));
            Ok(T::attention_backward(inputs, &self.statistics, &y.view()?, &dy.view()?, wanted)?)
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
