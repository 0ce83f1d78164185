//! Memory that becomes a tensor without a copy.

use std::mem;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, DType, Device, InplaceOp1, Layout, MetalStorage, Shape, Storage, Tensor,
    WithDType,
};

use crate::error::{Error, ErrorKind, Result};
use crate::tensors::len;

/// Memory that an operation has filled and owns: its future output.
#[derive(Debug)]
pub struct OwnedStorage {
    pub(crate) storage: Storage,
    pub(crate) shape: Shape,
}

impl OwnedStorage {
    /// Elements on the CPU, row-major.
    ///
    /// # Errors
    /// If the number of elements is not that of `shape`.
    pub fn new<T: WithDType>(elements: Vec<T>, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if elements.len() != shape.elem_count() {
            return Err(Error::shape("the number of elements differs from that of the shape")
                .expected(format!("{:?}", shape.dims()))
                .found(elements.len()));
        }
        Ok(Self { storage: Storage::Cpu(T::to_cpu_storage_owned(elements)), shape })
    }

    /// The memory of a tensor that is not used elsewhere: on the CPU without a copy, unless the tensor is a strided view; on other
    /// devices one copy, whatever the strides. Other holders of that memory on the CPU find none: Candle's functions fail or
    /// panic on it.
    ///
    /// # Errors
    /// What Candle reports.
    pub fn take(tensor: Tensor) -> Result<Self> {
        let tensor = tensor.detach();
        let shape = tensor.shape().clone();
        if let Some(storage) = copied(&tensor)? {
            return Ok(Self { storage, shape });
        }
        let taken = StorageSlot::default();
        let whole = tensor.is_contiguous() && {
            let (storage, layout) = tensor.storage_and_layout();
            let len = if let Storage::Cpu(storage) = &*storage { len(storage) } else { usize::MAX };
            // Other holders of no elements lose none.
            layout.start_offset() == 0 && len > 0 && len == layout.shape().elem_count()
        };
        let tensor = if whole { tensor } else { tensor.force_contiguous()? };
        // In one dimension, since Candle takes the strides of an empty tensor for those of a broadcast.
        tensor.reshape(shape.elem_count())?.inplace_op1(&taken)?;
        match taken.take() {
            Some(storage) => Ok(Self { storage, shape }),
            None => Err(Error::new(ErrorKind::Structure, "a tensor has no memory to take")),
        }
    }

    /// A scalar on a device, for an output that is not read.
    ///
    /// # Errors
    /// If allocation fails.
    pub(crate) fn placeholder(device: &Device) -> Result<Self> {
        match device {
            Device::Cpu => Self::new(vec![0f32], ()),
            _ => Self::take(Tensor::zeros((), DType::F32, device)?),
        }
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// If the shape has another number of elements.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.elem_count() != self.shape.elem_count() {
            return Err(Error::shape("an output cannot have this shape")
                .expected(format!("{} elements", self.shape.elem_count()))
                .found(format!("{:?}", shape.dims())));
        }
        Ok(Self { storage: self.storage, shape })
    }

    /// As a tensor outside any graph.
    #[must_use]
    pub fn into_tensor(self) -> Tensor {
        Tensor::from_storage(self.storage, self.shape, BackpropOp::none(), false)
    }
}

/// A copy of a tensor on a device, of any strides; `None` on the CPU.
fn copied(tensor: &Tensor) -> candle_core::Result<Option<Storage>> {
    /// A copy in row-major order.
    fn copy<S>(storage: &S, layout: &Layout) -> candle_core::Result<S>
    where
        S: BackendStorage<Device: BackendDevice<Storage = S>>,
    {
        let device = storage.device();
        // SAFETY: the copy writes each element.
        #[expect(unsafe_code, reason = "memory that is filled at once")]
        let mut new = unsafe { device.alloc_uninit(layout.shape(), storage.dtype()) }?;
        storage.copy_strided_src(&mut new, 0, layout)?;
        Ok(new)
    }

    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(_) => Ok(None),
        Storage::Cuda(storage) => Ok(Some(Storage::Cuda(copy(storage, layout)?))),
        Storage::Metal(storage) => Ok(Some(Storage::Metal(copy(storage, layout)?))),
    }
}

/// What stays in a tensor whose memory was taken out. Of a type that tensors of floats do not have, so that Candle
/// reports an error: its matrix product does not compare the length of memory with the shape.
pub(super) const EMPTY: CpuStorage = CpuStorage::U8(Vec::new());

/// A slot through which memory passes from one tensor into another.
#[derive(Default)]
pub(super) struct StorageSlot(Mutex<Option<Storage>>);

impl StorageSlot {
    pub(super) fn holding(storage: Storage) -> Self {
        Self(Mutex::new(Some(storage)))
    }

    pub(super) fn take(&self) -> Option<Storage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, storage: Storage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(storage);
    }

    /// Takes memory that has no other holder.
    fn keep_copy<S>(&self, storage: &mut S, wrap: impl FnOnce(S) -> Storage) -> candle_core::Result<()>
    where
        S: BackendStorage<Device: BackendDevice<Storage = S>>,
    {
        let empty = storage.device().zeros_impl(&Shape::from(0), storage.dtype())?;
        self.keep(wrap(mem::replace(storage, empty)));
        Ok(())
    }
}

impl InplaceOp1 for StorageSlot {
    fn name(&self) -> &'static str {
        "take storage"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(Storage::Cpu(mem::replace(storage, EMPTY)));
        Ok(())
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep_copy(storage, Storage::Cuda)
    }

    fn metal_fwd(&self, storage: &mut MetalStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep_copy(storage, Storage::Metal)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn other_holders_do_not_read_beyond_taken_memory() -> Result<()> {
        let x = Tensor::ones((64, 64), DType::F32, &Device::Cpu)?;
        let taken = OwnedStorage::take(x.clone())?;
        assert!(x.matmul(&x).is_err());
        assert_eq!(taken.into_tensor().sum_all()?.to_scalar::<f32>()?, 4096.);
        Ok(())
    }
}
