//! The calls as a C program declares them, and what the tests do with them again and again.
#![allow(missing_docs, dead_code, unreachable_pub)] // the manual says what they are; each test uses some

pub mod graphs;
pub mod product;

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use simcuda::counts::Counts;

/// `CUDA_KERNEL_NODE_PARAMS_v2`.
#[repr(C)]
pub struct KernelNode {
    pub function: *mut c_void,
    pub grid: [u32; 6],
    pub shared: u32,
    pub parameters: *mut *mut c_void,
    pub extra: *mut *mut c_void,
    pub kernel: *mut c_void,
    pub context: *mut c_void,
}

/// An end of a copy, in `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyEnd {
    pub start: [usize; 3],
    pub level: usize,
    pub kind: u32,
    pub host: usize,
    pub device: u64,
    pub array: usize,
    pub reserved: usize,
    pub pitch: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyNode {
    pub from: CopyEnd,
    pub to: CopyEnd,
    pub size: [usize; 3],
}

/// `CUDA_MEMSET_NODE_PARAMS_v1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillNode {
    pub to: u64,
    pub pitch: usize,
    pub value: u32,
    pub size: u32,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEM_ALLOC_NODE_PARAMS_v1`, with its `CUmemPoolProps`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocationNode {
    pub kind: u32,
    pub handles: u32,
    /// Of a device, and its ordinal.
    pub location: [i32; 2],
    pub rest: [u64; 9],
    pub access: usize,
    pub access_count: usize,
    pub len: usize,
    pub address: u64,
}

unsafe extern "C" {
    pub fn cuInit(flags: u32) -> i32;
    pub fn cuDriverGetVersion(version: *mut i32) -> i32;
    pub fn cuDeviceGet(device: *mut i32, ordinal: i32) -> i32;
    pub fn cuDeviceGetName(name: *mut c_char, len: i32, device: i32) -> i32;
    pub fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: i32) -> i32;
    pub fn cuCtxSetCurrent(context: *mut c_void) -> i32;
    pub fn cuCtxGetCurrent(context: *mut *mut c_void) -> i32;
    pub fn cuGetExportTable(table: *mut *const c_void, id: *const c_void) -> i32;
    pub fn cuGetErrorName(code: i32, name: *mut *const c_char) -> i32;
    pub fn cuMemAllocManaged(address: *mut u64, len: usize, flags: u32) -> i32;
    pub fn cuMemAllocAsync(address: *mut u64, len: usize, stream: *mut c_void) -> i32;
    pub fn cuMemFreeAsync(address: u64, stream: *mut c_void) -> i32;
    pub fn cuMemHostAlloc(address: *mut *mut c_void, len: usize, flags: u32) -> i32;
    pub fn cuMemFreeHost(address: *mut c_void) -> i32;
    pub fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, len: usize, stream: *mut c_void) -> i32;
    pub fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, len: usize, stream: *mut c_void) -> i32;
    pub fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: *mut c_void) -> i32;
    pub fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: *mut c_void) -> i32;
    pub fn cuMemsetD32Async(to: u64, value: u32, count: usize, stream: *mut c_void) -> i32;
    pub fn cuDeviceGetDefaultMemPool(pool: *mut *mut c_void, device: i32) -> i32;
    pub fn cuMemPoolSetAttribute(pool: *mut c_void, attribute: i32, value: *mut c_void) -> i32;
    pub fn cuMemPoolGetAttribute(pool: *mut c_void, attribute: i32, value: *mut c_void) -> i32;
    pub fn cuStreamCreate(stream: *mut *mut c_void, flags: u32) -> i32;
    pub fn cuStreamDestroy_v2(stream: *mut c_void) -> i32;
    pub fn cuStreamSynchronize(stream: *mut c_void) -> i32;
    pub fn cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, flags: u32) -> i32;
    pub fn cuEventCreate(event: *mut *mut c_void, flags: u32) -> i32;
    pub fn cuEventRecord(event: *mut c_void, stream: *mut c_void) -> i32;
    pub fn cuEventDestroy_v2(event: *mut c_void) -> i32;
    pub fn cuStreamBeginCapture_v2(stream: *mut c_void, mode: i32) -> i32;
    pub fn cuStreamEndCapture(stream: *mut c_void, graph: *mut *mut c_void) -> i32;
    pub fn cuStreamIsCapturing(stream: *mut c_void, status: *mut i32) -> i32;
    pub fn cuThreadExchangeStreamCaptureMode(mode: *mut i32) -> i32;
    pub fn cuGraphInstantiateWithFlags(run: *mut *mut c_void, graph: *mut c_void, flags: u64) -> i32;
    pub fn cuGraphLaunch(run: *mut c_void, stream: *mut c_void) -> i32;
    pub fn cuGraphDestroy(graph: *mut c_void) -> i32;
    pub fn cuGraphExecDestroy(run: *mut c_void) -> i32;
    pub fn cuGraphGetNodes(graph: *mut c_void, nodes: *mut *mut c_void, count: *mut usize) -> i32;
    pub fn cuGraphNodeGetType(node: *mut c_void, kind: *mut u32) -> i32;
    pub fn cuGraphKernelNodeGetParams_v2(node: *mut c_void, kernel: *mut KernelNode) -> i32;
    pub fn cuGraphMemcpyNodeGetParams(node: *mut c_void, copy: *mut CopyNode) -> i32;
    pub fn cuGraphMemsetNodeGetParams(node: *mut c_void, fill: *mut FillNode) -> i32;
    pub fn cuGraphMemAllocNodeGetParams(node: *mut c_void, allocation: *mut AllocationNode) -> i32;
    pub fn cuGraphMemFreeNodeGetParams(node: *mut c_void, address: *mut u64) -> i32;
    pub fn cuFuncGetParamInfo(
        function: *mut c_void,
        index: usize,
        offset: *mut usize,
        len: *mut usize,
    ) -> i32;
    pub fn cuKernelGetParamInfo(
        kernel: *mut c_void,
        index: usize,
        offset: *mut usize,
        len: *mut usize,
    ) -> i32;
    pub fn cuFuncGetName(name: *mut *const c_char, function: *mut c_void) -> i32;
    pub fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, len: usize, stream: *mut c_void) -> i32;
    pub fn cuModuleGetFunction(function: *mut *mut c_void, module: *mut c_void, name: *const c_char) -> i32;
    pub fn cuModuleGetGlobal_v2(
        address: *mut u64,
        len: *mut usize,
        module: *mut c_void,
        name: *const c_char,
    ) -> i32;
    pub fn cuModuleUnload(module: *mut c_void) -> i32;
    pub fn cuLaunchKernel(
        function: *mut c_void,
        blocks_x: u32,
        blocks_y: u32,
        blocks_z: u32,
        threads_x: u32,
        threads_y: u32,
        threads_z: u32,
        shared: u32,
        stream: *mut c_void,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> i32;
    pub fn cuModuleLoadData(module: *mut *mut c_void, image: *const c_void) -> i32;
    pub fn cublasCreate_v2(handle: *mut *mut c_void) -> i32;
    pub fn cublasSetStream_v2(handle: *mut c_void, stream: *mut c_void) -> i32;
    pub fn cublasDestroy_v2(handle: *mut c_void) -> i32;
    pub fn cublasDgemmStridedBatched(
        handle: *mut c_void,
        op_a: i32,
        op_b: i32,
        m: i32,
        n: i32,
        k: i32,
        alpha: *const f64,
        a: *const f64,
        lda: i32,
        stride_a: i64,
        b: *const f64,
        ldb: i32,
        stride_b: i64,
        beta: *const f64,
        c: *mut f64,
        ldc: i32,
        stride_c: i64,
        batch: i32,
    ) -> i32;
    pub fn cublasGemmStridedBatchedEx(
        handle: *mut c_void,
        op_a: i32,
        op_b: i32,
        m: i32,
        n: i32,
        k: i32,
        alpha: *const c_void,
        a: *const c_void,
        type_a: i32,
        lda: i32,
        stride_a: i64,
        b: *const c_void,
        type_b: i32,
        ldb: i32,
        stride_b: i64,
        beta: *const c_void,
        c: *mut c_void,
        type_c: i32,
        ldc: i32,
        stride_c: i64,
        batch: i32,
        compute: i32,
        algorithm: i32,
    ) -> i32;
    pub fn curandCreateGenerator(generator: *mut *mut c_void, kind: i32) -> i32;
    pub fn curandSetStream(generator: *mut c_void, stream: *mut c_void) -> i32;
    pub fn curandSetPseudoRandomGeneratorSeed(generator: *mut c_void, seed: u64) -> i32;
    pub fn curandGenerateUniform(generator: *mut c_void, to: *mut f32, count: usize) -> i32;
    pub fn curandGenerateNormalDouble(
        generator: *mut c_void,
        to: *mut f64,
        count: usize,
        mean: f64,
        deviation: f64,
    ) -> i32;
    pub fn curandDestroyGenerator(generator: *mut c_void) -> i32;
    pub fn simcuda_counts(counts: *mut Counts) -> i32;
    pub fn simcuda_count(name: *const c_char, count: *mut u64) -> i32;
    pub fn simcuda_refuse_transfers(refuse: i32) -> i32;
    pub fn simcuda_reset_counts() -> i32;
}

/// The device is one for the process, and tests count on it.
static DEVICE: Mutex<()> = Mutex::new(());

/// The device, with the context current in this thread.
pub fn device() -> MutexGuard<'static, ()> {
    let guard = DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut context = null_mut();
    // SAFETY: the pointers are to places of their types.
    unsafe {
        assert_eq!((cuInit(0), cuDevicePrimaryCtxRetain(&raw mut context, 0)), (0, 0));
        assert_eq!(cuCtxSetCurrent(context), 0);
    }
    guard
}

pub fn stream() -> *mut c_void {
    let mut stream = null_mut();
    // SAFETY: the pointer is to a place for a handle.
    assert_eq!(unsafe { cuStreamCreate(&raw mut stream, 1) }, 0);
    stream
}

/// Memory with these numbers.
pub fn upload<T: Copy>(values: &[T], stream: *mut c_void) -> u64 {
    let mut address = 0;
    let len = size_of_val(values);
    // SAFETY: the pointers are to a place for an address, and to `len` bytes.
    unsafe {
        assert_eq!(cuMemAllocAsync(&raw mut address, len, stream), 0);
        assert_eq!(cuMemcpyHtoDAsync_v2(address, values.as_ptr().cast(), len, stream), 0);
    }
    address
}

pub fn read_back<T: Copy>(to: &mut [T], from: u64, stream: *mut c_void) {
    // SAFETY: the pointer is to as many bytes; the tests read numbers that take any bits.
    assert_eq!(unsafe { cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, size_of_val(to), stream) }, 0);
}

pub fn counts() -> Counts {
    let mut counts = Counts::default();
    // SAFETY: the pointer is to a place for the counts.
    assert_eq!(unsafe { simcuda_counts(&raw mut counts) }, 0);
    counts
}
