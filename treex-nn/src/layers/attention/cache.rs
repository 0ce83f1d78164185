//! The key-value cache of autoregressive decoding.

use candle_core::{DType, Device, Tensor};
use treex_core::constants::arange;
use treex_core::size;
use treex_core::transfers::transfer;
use treex_core::{Cache, ChildInfo, Error, Leaf, Result, Segment, TreeObject, Visitor, VisitorMut};

/// Keys and values of past positions, in `max_length` slots, as in Flax's collection `cache`. All leaves are
/// `Nothing` until decoding starts.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// `[batch.., max_length, kv_heads, head_dim]`. Slots after the positions so far are undefined.
    pub cached_key: Leaf<Cache>,
    /// The same for values.
    pub cached_value: Leaf<Cache>,
    /// The number of slots written, a scalar of `I64`.
    pub cache_index: Leaf<Cache>,
}

impl KvCache {
    pub(super) fn empty() -> Self {
        Self { cached_key: Leaf::nothing(), cached_value: Leaf::nothing(), cache_index: Leaf::nothing() }
    }

    /// Slots of zeros, of this shape.
    pub(super) fn zeros(shape: &[usize], dtype: DType, device: &Device) -> Result<Self> {
        let slots = size::zeros(shape, dtype, device)?;
        Ok(Self {
            cached_key: Leaf::new(&slots)?,
            cached_value: Leaf::new(&slots)?,
            cache_index: Leaf::new(Tensor::new(0i64, &Device::Cpu)?)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cached_key.is_nothing()
    }

    /// The number of positions written.
    pub(super) fn index(&self) -> Result<usize> {
        let instead = "start with `init_cache` on the device, which keeps this number on the CPU";
        let index = transfer(&self.cache_index.get()?, &Device::Cpu, instead)?;
        Ok(usize::try_from(index.to_scalar::<i64>()?).unwrap_or(usize::MAX))
    }

    /// Appends `key` and `value`, `[batch.., length, kv_heads, head_dim]`, in place where no other tree
    /// shares this cache. [`advance`](Self::advance) makes them count. Returns the keys and values of all
    /// slots, and the mask `[length, max_length]` by which a new position sees itself and the positions
    /// before it. Slots of earlier calls have no gradient.
    pub(super) fn write(&mut self, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let (mut expected, index) = (self.cached_key.get()?.dims().to_vec(), self.index()?);
        let axis = key.rank().saturating_sub(3);
        let (length, max_length) = (key.dim(axis)?, expected.get(axis).copied().unwrap_or(0));
        if let Some(length) = expected.get_mut(axis) {
            *length = key.dim(axis)?;
        }
        if key.dims() != expected || value.dims() != expected || index.saturating_add(length) > max_length {
            return Err(Error::shape("the attention cache has no room for these positions")
                .expected(format!(
                    "keys and values of shape {expected:?}, at most {} of {max_length} positions",
                    max_length.saturating_sub(index)
                ))
                .found(format!("{:?} and {:?}", key.dims(), value.dims()))
                .remedy("start again with `init_cache(batch_dims, max_length)`, or end decoding with `clear_cache()`"));
        }
        let written = |slots: &mut Leaf<Cache>, new: &Tensor| -> Result<Tensor> {
            let new = new.to_dtype(slots.dtype().unwrap_or(new.dtype()))?;
            slots.write_slice(&new, axis, index)?;
            let all = slots.get()?;
            if !new.track_op() {
                return Ok(all);
            }
            // The slots of this call have a gradient.
            let rest = all.narrow(axis, index + length, max_length - index - length)?;
            Ok(Tensor::cat(&[all.narrow(axis, 0, index)?, new, rest], axis)?)
        };
        let (key, value) = (written(&mut self.cached_key, key)?, written(&mut self.cached_value, value)?);

        let slots = arange(max_length, key.device())?.reshape((1, max_length))?;
        let now = arange(length, key.device())?.affine(1., index as f64)?;
        let mask = slots.broadcast_le(&now.reshape((length, 1))?)?;
        Ok((key, value, mask))
    }

    /// Adds `length` to the number of positions.
    pub(super) fn advance(&mut self, length: usize) -> Result<()> {
        self.cache_index.set(Tensor::new((self.index()? + length) as i64, &Device::Cpu)?)
    }
}

treex_core::tree_aux!([] KvCache);

/// A container, not a module: it takes no key of `init`.
impl TreeObject for KvCache {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.child(ChildInfo::new(&[Segment::Field("cached_key")]), &self.cached_key);
        visitor.child(ChildInfo::new(&[Segment::Field("cached_value")]), &self.cached_value);
        visitor.child(ChildInfo::new(&[Segment::Field("cache_index")]), &self.cache_index);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        visitor.child(ChildInfo::new(&[Segment::Field("cached_key")]), &mut self.cached_key);
        visitor.child(ChildInfo::new(&[Segment::Field("cached_value")]), &mut self.cached_value);
        visitor.child(ChildInfo::new(&[Segment::Field("cache_index")]), &mut self.cache_index);
    }
}
