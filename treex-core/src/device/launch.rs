//! The memory of tensors in a launch.

use std::cell::Cell;

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaDevice, CudaStorage, DType, InplaceOp1, Layout, Shape, Storage, Tensor};
use half::{bf16, f16};

use crate::device::GROUP_SIZE;
use crate::error::{Error, ErrorKind, Result};

/// A tensor of bytes or floats for a launch to fill.
pub(super) fn uninitialized(shape: &Shape, dtype: DType, device: &CudaDevice) -> Result<Tensor> {
    fn new<T: CudaDType + DeviceRepr>(len: usize, device: &CudaDevice) -> candle_core::Result<CudaStorage> {
        // SAFETY: the launch writes every element before anything reads one.
        #[expect(unsafe_code, reason = "memory that a launch fills")]
        let slice = unsafe { device.alloc::<T>(len) }?;
        Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
    }
    let len = shape.elem_count();
    let storage = match dtype {
        DType::U8 => new::<u8>(len, device),
        DType::F16 => new::<f16>(len, device),
        DType::BF16 => new::<bf16>(len, device),
        DType::F64 => new::<f64>(len, device),
        _ => new::<f32>(len, device),
    }?;
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape.clone(), BackpropOp::none(), false))
}

/// Runs `$body` with `$slice` bound to the memory in `$storage`, of bytes or floats.
macro_rules! with_slice {
    ($storage:expr, $slice:ident => $body:expr) => {
        match $storage {
            CudaStorageSlice::U8($slice) => Ok($body),
            CudaStorageSlice::F32($slice) => Ok($body),
            CudaStorageSlice::F64($slice) => Ok($body),
            CudaStorageSlice::F16($slice) => Ok($body),
            CudaStorageSlice::BF16($slice) => Ok($body),
            _ => Err(candle_core::Error::Msg("an element type without kernels".into())),
        }
    };
}

/// The address of the first element of a contiguous tensor.
pub(super) fn address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(Error::new(ErrorKind::Candle, "a tensor has left its device"));
    };
    let offset = layout.start_offset() * tensor.dtype().size_in_bytes();
    let start = with_slice!(&storage.slice, slice => slice.device_ptr(&storage.device.cuda_stream()).0)?;
    Ok(start + offset as u64)
}

/// The address of a variable, whose memory is its own.
pub(super) fn address_to_write(variable: &Tensor) -> Result<u64> {
    struct Open(Cell<u64>);

    impl InplaceOp1 for Open {
        fn name(&self) -> &'static str {
            "sweep"
        }

        fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
            Err(candle_core::Error::Msg("a tensor has left its device".into()))
        }

        fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
            let stream = storage.device.cuda_stream();
            self.0.set(with_slice!(&mut storage.slice, slice => slice.device_ptr_mut(&stream).0)?);
            Ok(())
        }
    }

    let open = Open(Cell::new(0));
    variable.inplace_op1(&open)?;
    Ok(open.0.get())
}

/// The parameter of a launch.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Table<const WORDS: usize>([u64; WORDS]);

// SAFETY: it is plain words, the kernel's `struct Table`.
#[expect(unsafe_code, reason = "a parameter by value")]
unsafe impl<const WORDS: usize> DeviceRepr for Table<WORDS> {}

/// Launches a kernel whose one parameter is a table of `WORDS` words, of which these are the first.
///
/// # Safety
/// The kernel reads and writes memory that the words say: of tensors that live until the caller has returned, since what is
/// freed later is freed in the same stream, behind the launch. What it writes has no other holder.
#[expect(unsafe_code, reason = "the kernel has addresses")]
pub(super) unsafe fn launch<const WORDS: usize>(
    device: &CudaDevice,
    function: &CudaFunction,
    groups: usize,
    mut words: Vec<u64>,
) -> Result<()> {
    words.resize(WORDS, 0);
    let words: Box<[u64; WORDS]> =
        words.into_boxed_slice().try_into().map_err(|_| Error::argument("a table of another size"))?;
    let table = Box::new(Table(*words));
    let stream = device.cuda_stream();
    let config = LaunchConfig {
        grid_dim: (groups as u32, 1, 1),
        block_dim: (GROUP_SIZE as u32, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the kernel has one parameter, of this size; the rest is the caller's.
    let launched = unsafe { stream.launch_builder(function).arg(&*table).launch(config) };
    launched.map(drop).map_err(|error| Error::from(candle_core::Error::wrap(error)))
}
