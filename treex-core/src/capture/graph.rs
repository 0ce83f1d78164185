//! A CUDA graph: the work of a stream while it is captured.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::ptr;

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::sys::{self, CUgraphNodeType, CUmemorytype};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, DriverError};

use crate::error::{Error, ErrorKind, Result};

/// A graph that can be launched, and what its nodes are.
pub(super) struct Graph {
    graph: CudaGraph,
    nodes: Vec<Node>,
    memory: Vec<Memory>,
}

/// Kernels with a table for a parameter, all of whose words the launch sets.
const WITH_TABLE: [&str; 4] = ["sweep", "sums", "totals", "bernoulli"];

/// A node: what it does, and with which words.
#[derive(Debug, PartialEq)]
struct Node {
    name: String,
    words: Vec<u64>,
}

/// Memory that a graph owns.
#[derive(Clone, Copy, Debug)]
struct Memory {
    start: u64,
    len: u64,
}

/// Records what `f` asks of the device, which does none of it.
pub(super) fn record<R>(device: &CudaDevice, f: impl FnOnce() -> Result<R>) -> Result<(R, Graph)> {
    /// Ends the capture, after a panic too.
    struct Capture<'d>(Option<&'d CudaDevice>);

    impl Capture<'_> {
        fn end(&mut self) -> std::result::Result<Option<CudaGraph>, DriverError> {
            let Some(device) = self.0.take() else { return Ok(None) };
            let flags = sys::CUgraphInstantiate_flags_enum::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
            // cudarc reports what went wrong in a drop in its next call, which must not be the end of the capture, nor a later one.
            let context = device.cuda_stream().context().clone();
            let dropped = context.check_err();
            let ended = device.cuda_stream().end_capture(flags);
            context.check_err().and(dropped).and(ended)
        }
    }

    impl Drop for Capture<'_> {
        fn drop(&mut self) {
            let _ = self.end();
        }
    }

    let stream = device.cuda_stream();
    // Relaxed: a kernel that is used for the first time is compiled and loaded meanwhile.
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).map_err(driver)?;
    let mut capture = Capture(Some(device));
    let result = f()?;
    let graph = capture.end().map_err(driver)?.ok_or_else(|| {
        Error::new(ErrorKind::Candle, "a captured step became no graph")
            .remedy("run it without `capture`, and report it")
    })?;
    let (nodes, memory) = nodes(&graph).map_err(driver)?;
    if let Some(node) = nodes.iter().find(|node| node.name == HOST) {
        let bytes = node.words.last().copied().unwrap_or(0);
        let message = format!("a captured step copies {bytes} bytes between host and device");
        return Err(Error::new(ErrorKind::Transfer, message)
            .remedy("make the tensor before `capture`, or read it behind the step"));
    }
    Ok((result, Graph { graph, nodes, memory }))
}

fn driver(error: DriverError) -> Error {
    Error::from(candle_core::Error::wrap(error))
}

impl Graph {
    /// Gives its work to the device.
    pub(super) fn launch(&self) -> Result<()> {
        self.graph.launch().map_err(driver)
    }

    /// The first work in which another recording of the same step differs, but for the memory that each owns.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if self.nodes.len() != other.nodes.len() {
            return Some(format!(
                "{} pieces of work in one and {} in the next",
                self.nodes.len(),
                other.nodes.len()
            ));
        }
        let differs = |(a, b): &(&Node, &Node)| {
            let is_same =
                |(a, b): (&u64, &u64)| a == b || self.at(*a).is_some() && self.at(*a) == other.at(*b);
            a.name != b.name || a.words.len() != b.words.len() || !a.words.iter().zip(&b.words).all(is_same)
        };
        let (a, b) = self.nodes.iter().zip(&other.nodes).find(differs)?;
        Some(if a.name == b.name {
            format!("another number for `{}`", a.name)
        } else {
            format!("`{}` in one and `{}` in the next", a.name, b.name)
        })
    }

    /// Which memory an address is in, and where.
    fn at(&self, address: u64) -> Option<(usize, u64)> {
        let found = self
            .memory
            .iter()
            .position(|memory| (memory.start..memory.start + memory.len).contains(&address))?;
        Some((found, address - self.memory[found].start))
    }
}

/// The name of a copy that leaves the device.
const HOST: &str = "a copy of the host's memory";

/// The nodes of a graph, and its memory, in the order in which they were recorded.
#[expect(unsafe_code, reason = "calls of the driver")]
fn nodes(graph: &CudaGraph) -> std::result::Result<(Vec<Node>, Vec<Memory>), DriverError> {
    let mut count = 0;
    // SAFETY: the graph lives; without a place for them the call writes how many nodes there are.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), ptr::null_mut(), &raw mut count) }.result()?;
    let mut handles = vec![ptr::null_mut(); count];
    // SAFETY: there is a place for `count` handles.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), handles.as_mut_ptr(), &raw mut count) }.result()?;
    let (mut nodes, mut memory) = (Vec::with_capacity(count), Vec::new());
    for handle in handles {
        // SAFETY: the handles are nodes of the graph, which lives.
        let (node, own) = unsafe { node(handle) }?;
        nodes.push(node);
        memory.extend(own);
    }
    Ok((nodes, memory))
}

/// What a node is, and the memory that it gives to the graph.
///
/// # Safety
/// The handle is that of a node in a graph that lives.
#[expect(unsafe_code, reason = "calls of the driver")]
unsafe fn node(handle: sys::CUgraphNode) -> std::result::Result<(Node, Option<Memory>), DriverError> {
    let mut kind = CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
    // SAFETY: the caller's; each call writes the structure of the node's kind, which is 0 before.
    unsafe {
        sys::cuGraphNodeGetType(handle, &raw mut kind).result()?;
        let named = |name: &str, words| Node { name: name.to_owned(), words };
        Ok(match kind {
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL => (kernel(handle)?, None),
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY => {
                let mut copy = MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
                sys::cuGraphMemcpyNodeGetParams(handle, copy.as_mut_ptr()).result()?;
                let copy = copy.assume_init();
                let is_host =
                    [copy.srcMemoryType, copy.dstMemoryType].contains(&CUmemorytype::CU_MEMORYTYPE_HOST);
                let name = if is_host { HOST } else { "a copy" };
                (
                    named(
                        name,
                        vec![copy.srcDevice, copy.dstDevice, copy.Height as u64, copy.WidthInBytes as u64],
                    ),
                    None,
                )
            }
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMSET => {
                let mut fill = MaybeUninit::<sys::CUDA_MEMSET_NODE_PARAMS>::zeroed();
                sys::cuGraphMemsetNodeGetParams(handle, fill.as_mut_ptr()).result()?;
                let fill = fill.assume_init();
                let words = vec![
                    fill.dst,
                    fill.value.into(),
                    fill.elementSize.into(),
                    fill.width as u64,
                    fill.height as u64,
                ];
                (named("a fill", words), None)
            }
            CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_ALLOC => {
                let mut new = MaybeUninit::<sys::CUDA_MEM_ALLOC_NODE_PARAMS>::zeroed();
                sys::cuGraphMemAllocNodeGetParams(handle, new.as_mut_ptr()).result()?;
                let new = new.assume_init();
                let own = Memory { start: new.dptr, len: new.bytesize as u64 };
                (named("an allocation", vec![own.len]), Some(own))
            }
            other => (named(&format!("{other:?}"), Vec::new()), None),
        })
    }
}

/// A kernel: its name, its grid, and its parameters. Those in structures of others' kernels are left out, whose gaps have no value.
///
/// # Safety
/// As [`node`], for a node of a kernel.
#[expect(unsafe_code, reason = "calls of the driver")]
unsafe fn kernel(handle: sys::CUgraphNode) -> std::result::Result<Node, DriverError> {
    // SAFETY: the caller's. `func` and `kern` are the node's; a parameter has as many bytes as the driver says, and `kernelParams`
    // has a pointer to each.
    unsafe {
        let mut launch = MaybeUninit::<sys::CUDA_KERNEL_NODE_PARAMS>::zeroed();
        sys::cuGraphKernelNodeGetParams_v2(handle, launch.as_mut_ptr()).result()?;
        let launch = launch.assume_init();
        let mut text: *const c_char = ptr::null();
        let named = if launch.func.is_null() {
            sys::cuKernelGetName(&raw mut text, launch.kern)
        } else {
            sys::cuFuncGetName(&raw mut text, launch.func)
        };
        let is_named = named.result().is_ok() && !text.is_null();
        let name =
            if is_named { CStr::from_ptr(text).to_string_lossy().into_owned() } else { "a kernel".into() };
        let grid = [
            launch.gridDimX,
            launch.gridDimY,
            launch.gridDimZ,
            launch.blockDimX,
            launch.blockDimY,
            launch.blockDimZ,
        ];
        let mut words: Vec<u64> = grid.map(u64::from).into();
        let (mut offset, mut size) = (0, 0);
        for index in 0.. {
            let info = if launch.func.is_null() {
                sys::cuKernelGetParamInfo(launch.kern, index, &raw mut offset, &raw mut size)
            } else {
                sys::cuFuncGetParamInfo(launch.func, index, &raw mut offset, &raw mut size)
            };
            if info.result().is_err() || launch.kernelParams.is_null() {
                break;
            }
            if size > 8 && !WITH_TABLE.contains(&name.as_str()) {
                continue;
            }
            let bytes = std::slice::from_raw_parts((*launch.kernelParams.add(index)).cast::<u8>(), size);
            words.extend(bytes.chunks(8).map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_le_bytes(word)
            }));
        }
        Ok(Node { name, words })
    }
}
