//! A sweep on a CUDA device.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, sys,
};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaDevice, CudaStorage, DType, InplaceOp1, Layout, Shape, Storage, Tensor};

use super::part::Part;
use super::source::{Case, GROUP_SIZE, kernel};
use super::table::{Launch, Row, launches, stride};
use crate::device::compile;
use crate::error::{Error, ErrorKind, Result};
use crate::tensors::storage_id;
use crate::tree::kind::{KindTag, TreePart};

/// The sizes of a kernel's parameter, in words: a kernel for each that is used. The second is the most that every device
/// takes, the last that of devices from compute capability 7.0 on, with CUDA 12.1.
const SIZES: [usize; 3] = [120, 500, 4080];

/// Tensors of a part, ready for the launch.
struct Open {
    inputs: Vec<Tensor>,
    variables: Vec<Tensor>,
    output: Option<Tensor>,
}

pub(super) fn sweep(parts: Vec<Part<'_>>) -> Result<()> {
    let Some(device) = parts.first().and_then(|part| part.inputs.first()).map(|x| x.device().clone()) else {
        return Ok(());
    };
    let device = device.as_cuda_device()?;
    // Everything that allocates or compiles comes before the first launch.
    let (mut open, mut outputs, mut programs) = (Vec::new(), Vec::new(), Vec::new());
    for Part { inputs, leaves, output, program } in parts {
        let mut variables = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            variables.push(leaf.make_mut(KindTag::of::<TreePart>())?.clone());
        }
        let new = match (&output, inputs.first()) {
            (Some(_), Some(like)) => Some(uninitialized(like.shape(), program.is_wide, device)?),
            _ => None,
        };
        outputs.push(output);
        programs.push(program);
        open.push(Open { inputs, variables, output: new });
    }
    let written: HashSet<usize> = open.iter().flat_map(|part| &part.variables).map(storage_id).collect();
    for input in open.iter_mut().flat_map(|part| &mut part.inputs) {
        if written.contains(&storage_id(input)) {
            *input = input.force_contiguous()?;
        } else if !input.is_contiguous() {
            *input = input.contiguous()?;
        }
    }

    let mut cases: HashMap<String, usize> = HashMap::new();
    let mut known: HashMap<(usize, Vec<DType>, Vec<DType>), usize> = HashMap::new();
    let (mut rows, mut constants, mut slots) = (Vec::with_capacity(open.len()), Vec::new(), 0);
    for (part, program) in open.iter().zip(&programs) {
        let dtypes = |tensors: &[Tensor]| tensors.iter().map(Tensor::dtype).collect::<Vec<_>>();
        let (inputs, leaves) = (dtypes(&part.inputs), dtypes(&part.variables));
        let address = std::ptr::from_ref(&**program).addr();
        let key = (address, inputs.clone(), leaves.clone());
        let number = *known.entry(key).or_insert_with(|| {
            let case = Case { program, inputs, leaves, has_output: part.output.is_some() };
            slots = slots.max(case.slots());
            let next = cases.len();
            *cases.entry(case.text()).or_insert(next)
        });
        let bits = |constant: &f64| {
            if program.is_wide { constant.to_bits() } else { u64::from((*constant as f32).to_bits()) }
        };
        constants.push(program.source.constants.iter().map(bits).collect::<Vec<_>>());
        rows.push((number, part));
    }
    let mut texts = vec![String::new(); cases.len()];
    cases.into_iter().for_each(|(text, number)| texts[number] = text);

    let rows = rows.iter().zip(&constants).map(|((case, part), constants)| {
        Ok(Row { case: *case, len: part.len(), constants, addresses: part.addresses()? })
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let has_large_parameters = compile::compute_capability(device)? >= 70 && sys::CUDA_VERSION >= 12010;
    let sizes = if has_large_parameters { &SIZES[..] } else { &SIZES[..2] };
    let most = sizes.last().copied().unwrap_or_default();
    let launches = launches(&rows, stride(slots), most).ok_or_else(|| {
        Error::argument("the constants of a program do not fit into a launch")
            .expected(format!("less than {most}"))
    })?;
    let mut functions = Vec::with_capacity(launches.len());
    for launch in &launches {
        let size = sizes.iter().copied().find(|size| launch.words.len() <= *size).unwrap_or(most);
        functions.push((size, compile::kernel(device, "sweep", &kernel(&texts, size, stride(slots)))?));
    }
    for (launch, (size, function)) in launches.into_iter().zip(&functions) {
        match *size {
            120 => run::<120>(device, function, launch)?,
            500 => run::<500>(device, function, launch)?,
            _ => run::<4080>(device, function, launch)?,
        }
    }
    if device.is_event_tracking() {
        // Opening it again records that it was used up to here.
        open.iter().try_for_each(|part| part.addresses().map(drop))?;
    }
    for (output, part) in outputs.into_iter().zip(open) {
        if let Some(output) = output {
            *output = part.output;
        }
    }
    Ok(())
}

impl Open {
    /// Elements of each tensor.
    fn len(&self) -> usize {
        self.inputs.first().map_or(0, Tensor::elem_count)
    }

    /// Where the tensors are on the device.
    fn addresses(&self) -> Result<Vec<u64>> {
        let inputs = self.inputs.iter().map(address);
        inputs.chain(self.variables.iter().chain(&self.output).map(address_to_write)).collect()
    }
}

/// A tensor for a launch to fill.
fn uninitialized(shape: &Shape, is_wide: bool, device: &CudaDevice) -> Result<Tensor> {
    fn new<T: CudaDType + DeviceRepr>(len: usize, device: &CudaDevice) -> candle_core::Result<CudaStorage> {
        // SAFETY: the launch writes every element before anything reads one.
        #[expect(unsafe_code, reason = "memory that a launch fills")]
        let slice = unsafe { device.alloc::<T>(len) }?;
        Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
    }
    let len = shape.elem_count();
    let storage = if is_wide { new::<f64>(len, device) } else { new::<f32>(len, device) }?;
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape.clone(), BackpropOp::none(), false))
}

/// Runs `$body` with `$slice` bound to the memory in `$storage`, whatever float type it has.
macro_rules! with_slice {
    ($storage:expr, $slice:ident => $body:expr) => {
        match $storage {
            CudaStorageSlice::F32($slice) => Ok($body),
            CudaStorageSlice::F64($slice) => Ok($body),
            CudaStorageSlice::F16($slice) => Ok($body),
            CudaStorageSlice::BF16($slice) => Ok($body),
            _ => Err(candle_core::Error::Msg("an element type without kernels".into())),
        }
    };
}

/// The address of the first element of a contiguous tensor.
fn address(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(Error::new(ErrorKind::Candle, "a tensor has left its device"));
    };
    let offset = layout.start_offset() * tensor.dtype().size_in_bytes();
    let start = with_slice!(&storage.slice, slice => slice.device_ptr(&storage.device.cuda_stream()).0)?;
    Ok(start + offset as u64)
}

/// The address of a variable, whose memory is its own.
fn address_to_write(variable: &Tensor) -> Result<u64> {
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

fn run<const WORDS: usize>(device: &CudaDevice, function: &CudaFunction, launch: Launch) -> Result<()> {
    let Launch { groups, mut words } = launch;
    words.resize(WORDS, 0);
    let words: Box<[u64; WORDS]> =
        words.into_boxed_slice().try_into().map_err(|_| Error::argument("a table of another size"))?;
    let table = Box::new(Table(*words));
    let stream = device.cuda_stream();
    let config =
        LaunchConfig { grid_dim: (groups, 1, 1), block_dim: (GROUP_SIZE as u32, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the kernel has one parameter, of this size. It reads and writes the first `len` elements at the addresses of
    // each row, which are those of tensors with `len` elements that live until this function's caller has returned; memory
    // that is freed later is freed in this stream, behind the launch. What is written has no other holder.
    #[expect(unsafe_code, reason = "a launch")]
    let launched = unsafe { stream.launch_builder(function).arg(&*table).launch(config) };
    launched.map(drop).map_err(|error| Error::from(candle_core::Error::wrap(error)))
}
