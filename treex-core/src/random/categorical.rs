//! Categorical samples by the Gumbel-max trick: the largest of `logits + gumbel`, or the largest `k`.

use candle_core::shape::Dim;
use candle_core::{DType, Device, Shape, Tensor};
use half::{bf16, f16};

use super::continuous::wrong_type;
use super::real::Real;
use super::{DRAWN, Key, SampleMode, count};
use crate::error::{Error, Result};
use crate::transfers::transfer;

impl Key {
    /// Categories with probabilities `softmax(logits)` along `axis`: the index of the largest of
    /// `logits + gumbel`, as `U32`. The shape is `samples`, followed by that of `logits` without `axis`; with `()`
    /// for `samples`, one draw.
    ///
    /// `jax.random.categorical(key, logits, axis, (*samples, *batch))`. As in JAX, the first NaN logit wins.
    ///
    /// ```
    /// use candle_core::{D, Device, Tensor};
    /// use treex_core::random::Key;
    ///
    /// let logits = Tensor::new(&[[0.1f32, -1., 2., 0.5], [1., 1., 1., 1.]], &Device::Cpu)?;
    /// let categories = Key::from(42).categorical(&logits, D::Minus1, 2)?;
    /// assert_eq!(categories.to_vec2::<u32>()?, [[2, 3], [3, 0]]);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are no categories, or the logits are not floats.
    pub fn categorical(self, logits: &Tensor, axis: impl Dim, samples: impl Into<Shape>) -> Result<Tensor> {
        let axis = axis.to_index(logits.shape(), "categorical")?;
        let shape = [samples.into().dims(), &without(logits.dims(), axis)].concat();
        self.categorical_with(logits, axis, shape, true, SampleMode::Low)
    }

    /// [`categorical`](Self::categorical) with all options of JAX:
    /// `jax.random.categorical(key, logits, axis, shape, replace, mode)`.
    ///
    /// `shape` is that of the result: any leading dimensions, then those of `logits` without `axis`, of which one of
    /// length 1 broadcasts (with independent draws). Without `replace`, the draws along the leading dimensions are
    /// distinct: the indices of the largest values of `logits + gumbel`, in descending order (Kool et al.,
    /// "Stochastic beams and where to find them", 2019).
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use treex_core::random::{Key, SampleMode};
    ///
    /// let logits = Tensor::new(&[[0.1f32, -1., 2., 0.5], [1., 1., 1., 1.]], &Device::Cpu)?;
    /// let pairs = Key::from(42).categorical_with(&logits, 1, (2, 2), false, SampleMode::Low)?;
    /// assert_eq!(pairs.to_vec2::<u32>()?, [[2, 3], [3, 1]]);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are no categories, or fewer than draws without replacement; if the logits are not floats; or if
    /// `shape` does not end in the dimensions of `logits` without `axis`.
    pub fn categorical_with(
        self,
        logits: &Tensor,
        axis: impl Dim,
        shape: impl Into<Shape>,
        replace: bool,
        mode: SampleMode,
    ) -> Result<Tensor> {
        let axis = axis.to_index(logits.shape(), "categorical")?;
        let shape = shape.into();
        let logits = transfer(&logits.detach(), &Device::Cpu, DRAWN)?;
        let draw = match logits.dtype() {
            DType::BF16 => Self::categories::<bf16>,
            DType::F16 => Self::categories::<f16>,
            DType::F32 => Self::categories::<f32>,
            DType::F64 => Self::categories::<f64>,
            other => return Err(wrong_type("categorical", "float logits", other)),
        };
        draw(self, &logits, axis, shape.dims(), replace, mode)
    }

    fn categories<T: Real>(
        self,
        logits: &Tensor,
        axis: usize,
        shape: &[usize],
        replace: bool,
        mode: SampleMode,
    ) -> Result<Tensor> {
        let (samples, batch) = split_shape(logits.dims(), axis, shape, replace)?;
        let n = logits.dims()[axis];
        let draws = count(&samples.into())?;
        if n == 0 && (replace || draws > 0) {
            return Err(Error::argument("`categorical` needs at least one category")
                .expected("an axis of length 1 or more")
                .found(format!("logits of shape {:?}, axis {axis}", logits.dims()))
                .remedy("give the axis of the categories"));
        }
        if !replace && draws > n {
            return Err(Error::argument("`categorical` without replacement runs out of categories")
                .expected(format!("at most {n} draws"))
                .found(draws)
                .remedy("draw fewer, or with replacement"));
        }
        let dims = [&batch[..axis], &[n], &batch[axis..]].concat();
        let leading = if replace { samples } else { &[] };
        let noise = self.gumbel_with([leading, &dims].concat(), T::DTYPE, mode)?;
        let noisy = axis_last(&noise.broadcast_add(logits)?, leading.len() + axis)?.to_vec1::<T>()?;
        // An empty axis has no rows; any row length will do.
        let rows = noisy.chunks_exact(n.max(1));
        let picked: Vec<u32> = if replace {
            rows.map(largest).collect()
        } else {
            let orders: Vec<_> = rows.map(descending_order).collect();
            (0..draws).flat_map(|draw| orders.iter().map(move |order| order[draw])).collect()
        };
        Ok(Tensor::from_vec(picked, shape, &Device::Cpu)?)
    }
}

/// Splits the shape of a result into the dimensions of the draws and those of the logits.
fn split_shape<'s>(
    logits: &[usize],
    axis: usize,
    shape: &'s [usize],
    replace: bool,
) -> Result<(&'s [usize], &'s [usize])> {
    let batch = without(logits, axis);
    let split = shape.len().checked_sub(batch.len()).map(|draws| shape.split_at(draws));
    let fits = |own: &[usize]| own.iter().zip(&batch).all(|(own, dim)| own == dim || replace && *dim == 1);
    split.filter(|(_, own)| fits(own)).ok_or_else(|| {
        Error::shape("`categorical` got a wrong shape for the result")
            .expected(format!("a shape that ends in {batch:?}"))
            .found(format!("{shape:?}"))
            .remedy("put the dimensions of the draws before those of the logits")
    })
}

fn without(dims: &[usize], axis: usize) -> Vec<usize> {
    [&dims[..axis], &dims[axis + 1..]].concat()
}

/// The tensor with `axis` moved to the end, contiguous.
fn axis_last(tensor: &Tensor, axis: usize) -> Result<Tensor> {
    let order: Vec<usize> = (0..tensor.rank()).filter(|&dim| dim != axis).chain([axis]).collect();
    Ok(tensor.permute(order)?.contiguous()?.flatten_all()?)
}

/// The index of the largest value, the first of ties; NaN is largest.
fn largest<T: Real>(values: &[T]) -> u32 {
    let is_nan = |x: T| x.to_f64().is_nan();
    let mut best: Option<(T, u32)> = None;
    for (&value, index) in values.iter().zip(0..) {
        if best.is_none_or(|(top, _)| value > top || is_nan(value) && !is_nan(top)) {
            best = Some((value, index));
        }
    }
    best.map_or(0, |(_, index)| index)
}

/// The indices in descending order of value, ties in order of index: XLA's `top_k`, in which NaN is largest, and NaN
/// with a negative sign smallest.
pub(super) fn descending_order<T: Real>(values: &[T]) -> Vec<u32> {
    let mut numbered: Vec<_> = values.iter().map(|value| value.to_f64()).zip(0..).collect();
    numbered.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    numbered.into_iter().map(|(_, position)| position).collect()
}
