//! Launches on the memory of tensors.

use std::cell::Cell;

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, DType, InplaceOp1, Layout, Shape, Storage, Tensor};
use half::{bf16, f16};

use crate::autograd::OwnedStorage;
use crate::device::kernel::{Function, How, Launch, Value};
use crate::device::{GROUP_SIZE, compile};
use crate::error::{Error, ErrorKind, Result};

/// Memory of bytes, indices or floats for a launch to fill.
pub(super) fn uninitialized(shape: &Shape, dtype: DType, device: &CudaDevice) -> Result<OwnedStorage> {
    fn new<T: CudaDType + DeviceRepr>(len: usize, device: &CudaDevice) -> candle_core::Result<CudaStorage> {
        // SAFETY: the launch writes every element before anything reads one.
        #[expect(unsafe_code, reason = "memory that a launch fills")]
        let slice = unsafe { device.alloc::<T>(len) }?;
        Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
    }
    let len = shape.elem_count();
    let storage = match dtype {
        DType::U8 => new::<u8>(len, device),
        DType::U32 => new::<u32>(len, device),
        DType::F16 => new::<f16>(len, device),
        DType::BF16 => new::<bf16>(len, device),
        DType::F64 => new::<f64>(len, device),
        _ => new::<f32>(len, device),
    }?;
    Ok(OwnedStorage { storage: Storage::Cuda(storage), shape: shape.clone() })
}

/// Runs `$body` with `$slice` bound to the memory in `$storage`, of bytes, indices or floats.
macro_rules! with_slice {
    ($storage:expr, $slice:ident => $body:expr) => {
        match $storage {
            CudaStorageSlice::U8($slice) => Ok($body),
            CudaStorageSlice::U32($slice) => Ok($body),
            CudaStorageSlice::I64($slice) => Ok($body),
            CudaStorageSlice::F32($slice) => Ok($body),
            CudaStorageSlice::F64($slice) => Ok($body),
            CudaStorageSlice::F16($slice) => Ok($body),
            CudaStorageSlice::BF16($slice) => Ok($body),
            _ => Err(candle_core::Error::Msg("an element type without kernels".into())),
        }
    };
}

/// The address of the first element of a tensor.
pub(crate) fn address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let offset = layout.start_offset() * tensor.dtype().size_in_bytes();
    Ok(start(&storage)? + offset as u64)
}

/// The address of memory.
fn start(storage: &Storage) -> Result<u64> {
    let Storage::Cuda(storage) = storage else {
        return Err(Error::new(ErrorKind::Candle, "a tensor has left its device"));
    };
    Ok(with_slice!(&storage.slice, slice => slice.device_ptr(&storage.device.cuda_stream()).0)?)
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

/// Runs a launch whose tensors are on one CUDA device, of the types that it says.
///
/// # Safety
/// That of [`Launch::run`].
#[expect(unsafe_code, reason = "the kernel has addresses")]
pub(super) unsafe fn run<const N: usize>(
    launch: Launch<'_, N>,
    how: How,
    into: &[&Tensor],
    function: Option<Function<'_>>,
) -> Result<[OwnedStorage; N]> {
    let Launch { kernel, element, defines, groups, reads, writes, values } = launch;
    let read =
        |(x, _): &(&Tensor, DType)| if how == How::Strided { Ok((*x).clone()) } else { x.contiguous() };
    let tensors = reads.iter().map(read).collect::<candle_core::Result<Vec<_>>>()?;
    let [(first, _), ..] = reads else {
        return Err(Error::argument("a kernel reads nothing").expected("a tensor whose device it runs on"));
    };
    let device = first.device().as_cuda_device()?;
    let function = compile::of_element(device, kernel, element, defines, function)?;
    let new = |(shape, dtype): &(&Shape, DType)| {
        if how == How::OnZeros {
            let storage = Storage::Cuda(device.zeros_impl(shape, *dtype)?);
            return Ok(OwnedStorage { storage, shape: (*shape).clone() });
        }
        uninitialized(shape, *dtype, device)
    };
    let news = writes.iter().map(new).collect::<Result<Vec<_>>>()?;
    let Ok(news) = <[OwnedStorage; N]>::try_from(news) else {
        return Err(Error::argument("a kernel writes another number of tensors").expected(N));
    };
    let addresses = || -> Result<Vec<_>> {
        let given = tensors.iter().chain(into.iter().copied());
        given.map(address).chain(news.iter().map(|new| start(&new.storage))).collect()
    };
    let word = |value: &Value| match *value {
        Value::Index(index) => index as u64,
        Value::Real(value) if element == DType::F64 => value.to_bits(),
        Value::Real(value) => u64::from((value as f32).to_bits()),
    };
    let words: Vec<u64> = addresses()?.into_iter().chain(values.iter().map(word)).collect();
    let stream = device.cuda_stream();
    let mut builder = stream.launch_builder(&function);
    for word in &words {
        builder.arg(word);
    }
    // SAFETY: the driver reads as many bytes of each word as the parameter has, the lower ones; the rest is the caller's.
    unsafe { builder.launch(config(groups)) }
        .map_err(|error| Error::from(candle_core::Error::wrap(error)))?;
    if device.is_event_tracking() {
        // Opening memory records its use, here behind the launch.
        addresses()?;
    }
    Ok(news)
}

fn config(groups: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (groups as u32, 1, 1),
        block_dim: (GROUP_SIZE as u32, 1, 1),
        shared_mem_bytes: 0,
    }
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
    // SAFETY: the kernel has one parameter, of this size; the rest is the caller's.
    let launched = unsafe { stream.launch_builder(function).arg(&*table).launch(config(groups)) };
    launched.map(drop).map_err(|error| Error::from(candle_core::Error::wrap(error)))
}
