//! What a graph tells of its nodes.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::sync::{Mutex, PoisonError};

use super::super::device::{Answer, Device};
use super::super::error::Error;
use super::super::node::{Address, Told};
use super::calls;
use super::pointer::Out;

/// `CUDA_KERNEL_NODE_PARAMS_v2`.
#[repr(C)]
#[derive(Debug)]
pub struct KernelNode {
    function: u64,
    blocks: [u32; 3],
    threads: [u32; 3],
    dynamic_shared: u32,
    parameters: usize,
    extra: usize,
    kernel: u64,
    context: u64,
}

/// An end of a copy, in `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct End {
    x: usize,
    y: usize,
    z: usize,
    level: usize,
    kind: u32,
    host: usize,
    device: u64,
    array: usize,
    reserved: usize,
    pitch: usize,
    height: usize,
}

/// `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Debug)]
pub struct CopyNode {
    from: End,
    to: End,
    width: usize,
    height: usize,
    depth: usize,
}

/// `CUDA_MEMSET_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Debug)]
pub struct FillNode {
    to: u64,
    pitch: usize,
    value: u32,
    size: u32,
    width: usize,
    height: usize,
}

/// `CUDA_MEM_ALLOC_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Debug)]
pub struct AllocationNode {
    /// `CUmemPoolProps`: kind, handles, device and the rest.
    pool: [u64; 11],
    access: usize,
    access_count: usize,
    len: usize,
    address: u64,
}

const HOST: u32 = 1;
const DEVICE: u32 = 2;

fn end(address: Address, len: usize) -> End {
    let (kind, host, device) = match address {
        Address::Host(address) => (HOST, address, 0),
        Address::Device(address) => (DEVICE, 0, address),
    };
    End { x: 0, y: 0, z: 0, level: 0, kind, host, device, array: 0, reserved: 0, pitch: len, height: 1 }
}

/// A name that a program keeps as long as it runs.
fn name(text: &str) -> *const c_char {
    static NAMES: Mutex<BTreeMap<String, CString>> = Mutex::new(BTreeMap::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let named = || CString::new(text).unwrap_or_default();
    names.entry(text.to_owned()).or_insert_with(named).as_ptr()
}

/// Where a parameter is, and how long; a program need not ask for the length.
fn tell_parameter(
    device: &mut Device,
    function: u64,
    number: usize,
    offset: &Out<usize>,
    len: &Out<usize>,
) -> Answer {
    let parameter = device.parameter(function, number)?;
    offset.set(parameter.offset)?;
    if len.is_null() { Ok(()) } else { len.set(parameter.len) }
}

calls! { Error;
    /// The nodes of a graph, or their number.
    fn cuGraphGetNodes(device, graph: u64, nodes: Out<u64>, count: Out<usize>) {
        let handles = device.graph_nodes(graph)?;
        if !nodes.is_null() {
            let room = count.get()?;
            let mut places = nodes;
            for (number, place) in places.slice(room)?.iter_mut().enumerate() {
                *place = handles.get(number).copied().unwrap_or(0);
            }
            return count.set(room.min(handles.len()));
        }
        count.set(handles.len())
    }

    /// What kind of node it is.
    fn cuGraphNodeGetType(device, node: u64, kind: Out<u32>) { kind.set(device.node(node)?.number()) }

    /// A node that is a kernel.
    fn cuGraphKernelNodeGetParams_v2(device, node: u64, kernel: Out<KernelNode>) {
        let Told::Kernel { function, grid, parameters } = device.node(node)? else { return Err(Error::INVALID_VALUE) };
        kernel.set(KernelNode {
            function,
            blocks: grid.blocks,
            threads: grid.threads,
            dynamic_shared: grid.dynamic_shared,
            parameters: parameters.address(),
            extra: 0,
            kernel: 0,
            context: device.current()?,
        })
    }

    /// A node that is a copy.
    fn cuGraphMemcpyNodeGetParams(device, node: u64, copy: Out<CopyNode>) {
        let Told::Copy { to, from, len } = device.node(node)? else { return Err(Error::INVALID_VALUE) };
        copy.set(CopyNode { from: end(from, len), to: end(to, len), width: len, height: 1, depth: 1 })
    }

    /// A node that is a fill.
    fn cuGraphMemsetNodeGetParams(device, node: u64, fill: Out<FillNode>) {
        let Told::Fill { to, value, size, count } = device.node(node)? else { return Err(Error::INVALID_VALUE) };
        fill.set(FillNode { to, pitch: 0, value, size: size as u32, width: count, height: 1 })
    }

    /// A node that is an allocation.
    fn cuGraphMemAllocNodeGetParams(device, node: u64, allocation: Out<AllocationNode>) {
        let Told::Allocate { address, len } = device.node(node)? else { return Err(Error::INVALID_VALUE) };
        let mut pool = [0; 11];
        pool[..2].copy_from_slice(&[1, 1]); // pinned, no handles; device 0
        allocation.set(AllocationNode { pool, access: 0, access_count: 0, len: len as usize, address })
    }

    /// A node that frees memory.
    fn cuGraphMemFreeNodeGetParams(device, node: u64, address: Out<u64>) {
        let Told::Free { address: freed } = device.node(node)? else { return Err(Error::INVALID_VALUE) };
        address.set(freed)
    }

    /// Offset and bytes of a kernel's parameter.
    fn cuFuncGetParamInfo(device, function: u64, number: usize, offset: Out<usize>, len: Out<usize>) {
        tell_parameter(device, function, number, &offset, &len)
    }

    /// The same. No call gives the handle of a library's kernel, so that it is the function's.
    fn cuKernelGetParamInfo(device, kernel: u64, number: usize, offset: Out<usize>, len: Out<usize>) {
        tell_parameter(device, kernel, number, &offset, &len)
    }

    /// The name of a kernel.
    fn cuFuncGetName(device, text: Out<*const c_char>, function: u64) {
        text.set(name(device.kernel(function)?.name()))
    }
}
