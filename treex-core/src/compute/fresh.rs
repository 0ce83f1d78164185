//! Memory on its way into a tensor.

use std::mem;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, InplaceOp1, Layout, MetalStorage, Shape, Storage, Tensor, WithDType,
};

use crate::error::{Error, ErrorKind, Result};

/// Memory that an operation has just filled and nobody else holds: an output to be.
#[derive(Debug)]
pub struct Fresh {
    pub(super) storage: Storage,
    pub(super) shape: Shape,
}

impl Fresh {
    /// Elements on the host, row-major.
    ///
    /// # Errors
    /// If `shape` has another number of elements.
    pub fn new<T: WithDType>(elements: Vec<T>, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if elements.len() != shape.elem_count() {
            return Err(Error::shape("a kernel computed another number of elements than its shape has")
                .expected(format!("{:?}", shape.dims()))
                .found(elements.len()));
        }
        Ok(Self { storage: Storage::Cpu(T::to_cpu_storage_owned(elements)), shape })
    }

    /// The memory of a tensor that was computed a moment ago and that nobody else reads: without a copy, unless
    /// it is a view with gaps. Whoever still holds it finds it empty.
    ///
    /// # Errors
    /// What Candle reports.
    pub fn take(tensor: Tensor) -> Result<Self> {
        let taken = Taken::default();
        let tensor = tensor.detach();
        let whole = tensor.is_contiguous() && {
            let (storage, layout) = tensor.storage_and_layout();
            let len = match &*storage {
                Storage::Cpu(storage) => elements(storage),
                // Candle hands out views of the host's memory only; elsewhere a copy is the safe answer.
                Storage::Cuda(_) | Storage::Metal(_) => usize::MAX,
            };
            layout.start_offset() == 0 && len == layout.shape().elem_count()
        };
        let shape = tensor.shape().clone();
        let tensor = if whole { tensor } else { tensor.force_contiguous()? };
        // In one dimension, since Candle takes the strides of what is empty for those of a repetition.
        tensor.reshape(shape.elem_count())?.inplace_op1(&taken)?;
        match taken.take() {
            Some(storage) => Ok(Self { storage, shape }),
            None => Err(Error::new(ErrorKind::Structure, "a tensor has no memory to take")),
        }
    }

    /// As a tensor outside of any graph.
    #[must_use]
    pub fn into_tensor(self) -> Tensor {
        Tensor::from_storage(self.storage, self.shape, BackpropOp::none(), false)
    }
}

/// The number of elements in memory on the host.
fn elements(storage: &CpuStorage) -> usize {
    match storage {
        CpuStorage::U8(x) => x.len(),
        CpuStorage::U32(x) => x.len(),
        CpuStorage::I64(x) => x.len(),
        CpuStorage::BF16(x) => x.len(),
        CpuStorage::F16(x) => x.len(),
        CpuStorage::F32(x) => x.len(),
        CpuStorage::F64(x) => x.len(),
        _ => usize::MAX,
    }
}

/// Memory on its way from one tensor into another.
#[derive(Default)]
pub(super) struct Taken(Mutex<Option<Storage>>);

impl Taken {
    pub(super) fn holding(storage: Storage) -> Self {
        Self(Mutex::new(Some(storage)))
    }

    pub(super) fn take(&self) -> Option<Storage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep<S>(&self, storage: &mut S, wrap: impl FnOnce(S) -> Storage) -> candle_core::Result<()>
    where
        S: BackendStorage<Device: BackendDevice<Storage = S>>,
    {
        let empty = storage.device().zeros_impl(&Shape::from(0), storage.dtype())?;
        let storage = wrap(mem::replace(storage, empty));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(storage);
        Ok(())
    }
}

impl InplaceOp1 for Taken {
    fn name(&self) -> &'static str {
        "take storage"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(storage, Storage::Cpu)
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(storage, Storage::Cuda)
    }

    fn metal_fwd(&self, storage: &mut MetalStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(storage, Storage::Metal)
    }
}
