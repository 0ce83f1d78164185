//! The library as a program sees it: through C's calling convention, with pointers.

mod c;

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};

use c::*;
use half::bf16;
use simcuda::counts::Counts;

#[test]
fn a_program_begins_as_cudarc_does() {
    let _device = device();
    let (mut version, mut ordinal, mut current, mut name) = (0, 9, null_mut(), [0; 64]);
    let (mut table, mut error) = (null(), null());
    // SAFETY: the pointers are to places of their types, and the strings that come back end with a zero.
    unsafe {
        assert_eq!((cuDriverGetVersion(&raw mut version), version), (0, 13000));
        assert_eq!((cuDeviceGet(&raw mut ordinal, 0), ordinal), (0, 0));
        assert_eq!(cuDeviceGet(&raw mut ordinal, 1), 101);
        assert_eq!(cuDeviceGetName(name.as_mut_ptr(), 64, 0), 0);
        assert_eq!(CStr::from_ptr(name.as_ptr()), c"Simulated CUDA device");
        assert_eq!(cuDeviceGetName(name.as_mut_ptr(), 5, 0), 0);
        assert_eq!(CStr::from_ptr(name.as_ptr()), c"Simu");
        assert_eq!(cuCtxGetCurrent(&raw mut current), 0);
        assert!(!current.is_null());
        assert_ne!(
            cuGetExportTable(&raw mut table, null()),
            0,
            "NVRTC asks, and must hear that there is none"
        );
        assert_eq!(cuGetErrorName(700, &raw mut error), 0);
        assert_eq!(CStr::from_ptr(error), c"CUDA_ERROR_ILLEGAL_ADDRESS");
        assert_eq!(cuGetErrorName(12345, &raw mut error), 1);
        assert_eq!(cuMemAllocManaged(null_mut(), 1, 1), 801, "it is not there, and says so");
        assert_eq!(cuMemAllocAsync(null_mut(), 1, null_mut()), 1, "a null pointer is an error");
        let mut module = null_mut();
        assert_eq!(cuModuleLoadData(&raw mut module, c"no PTX".as_ptr().cast()), 218);
    }
}

#[test]
fn the_threshold_of_the_pool_is_kept() {
    let _device = device();
    let (mut pool, mut set, mut got) = (null_mut(), u64::MAX, 0_u64);
    // SAFETY: the pointers are to places of their types.
    unsafe {
        assert_eq!(cuDeviceGetDefaultMemPool(&raw mut pool, 0), 0);
        assert_eq!(cuMemPoolSetAttribute(pool, 4, (&raw mut set).cast()), 0);
        assert_eq!(cuMemPoolGetAttribute(pool, 4, (&raw mut got).cast()), 0);
        assert_eq!(cuMemPoolSetAttribute(pool, 1, (&raw mut set).cast()), 801);
    }
    assert_eq!(got, u64::MAX);
}

#[test]
fn copies_fills_streams_and_events() {
    let _device = device();
    let (a, b) = (stream(), stream());
    let address = upload(&[1_u32, 2, 3], a);
    let (mut event, mut pinned, mut read) = (null_mut(), null_mut(), [0_u32; 3]);
    // SAFETY: the pointers are to places of their types; pinned memory has 12 bytes, and is used only while it is there.
    unsafe {
        assert_eq!(cuEventCreate(&raw mut event, 2), 0);
        assert_eq!(cuEventRecord(event, a), 0);
        assert_eq!(cuStreamWaitEvent(b, event, 0), 0);
        assert_eq!(cuEventDestroy_v2(event), 0);
        assert_eq!(cuEventDestroy_v2(event), 400, "a stale handle is an error");
        assert_eq!(cuMemsetD8Async(address + 4, 0, 4, b), 0);
        assert_eq!(cuMemHostAlloc(&raw mut pinned, 12, 0), 0);
        assert_eq!(cuMemcpyDtoHAsync_v2(pinned, address, 12, b), 0);
        assert_eq!(pinned.cast::<u32>().read(), 0, "no call waited");
        assert_eq!(cuStreamSynchronize(b), 0);
        assert_eq!(pinned.cast::<[u32; 3]>().read(), [1, 0, 3]);
        assert_eq!((cuMemFreeHost(pinned), cuMemFreeHost(pinned)), (0, 1));
    }
    read_back(&mut read, address, a);
    assert_eq!(read, [1, 0, 3]);
    // SAFETY: there are no pointers.
    unsafe {
        assert_eq!((cuMemFreeAsync(address, a), cuMemFreeAsync(address, a)), (0, 1));
        assert_eq!((cuStreamDestroy_v2(a), cuStreamDestroy_v2(a), cuStreamDestroy_v2(b)), (0, 400, 0));
    }
}

#[test]
fn a_capture_becomes_a_graph_and_a_rule_that_is_broken_leaves_none() {
    let _device = device();
    let s = stream();
    let address = upload(&[7_u8; 4], s);
    let (mut graph, mut run, mut status, mut mode) = (null_mut(), null_mut(), 9, 1);
    let mut read = [0_u8; 4];
    // SAFETY: the pointers are to places of their types.
    unsafe {
        assert_eq!(cuStreamBeginCapture_v2(s, 1), 0);
        assert_eq!(cuMemsetD8Async(address, 1, 2, s), 0);
        assert_eq!((cuStreamIsCapturing(s, &raw mut status), status), (0, 1));
        assert_eq!(cuStreamEndCapture(s, &raw mut graph), 0);
        assert_eq!(cuGraphInstantiateWithFlags(&raw mut run, graph, 1), 0);
        assert_eq!((cuGraphLaunch(run, s), cuGraphExecDestroy(run), cuGraphDestroy(graph)), (0, 0, 0));
        assert_eq!((cuGraphLaunch(run, s), cuGraphDestroy(graph)), (1, 1));
        read_back(&mut read, address, s);
        assert_eq!(read, [1, 1, 7, 7]);

        assert_eq!(cuStreamBeginCapture_v2(s, 2), 0);
        assert_eq!(
            cuMemcpyDtoHAsync_v2(read.as_mut_ptr().cast(), address, 4, s),
            900,
            "a host reads in a capture"
        );
        assert_eq!((cuStreamIsCapturing(s, &raw mut status), status), (0, 2));
        assert_eq!((cuStreamEndCapture(s, &raw mut graph), graph), (901, null_mut()));
        assert_eq!((cuThreadExchangeStreamCaptureMode(&raw mut mode), mode), (0, 0));
        assert_eq!((cuThreadExchangeStreamCaptureMode(&raw mut mode), mode), (0, 1));
        assert_eq!(cuStreamBeginCapture_v2(s, 3), 1);
    }
}

#[test]
fn products_as_candle_calls_them() {
    let _device = device();
    let s = stream();
    // Row by row, [1 2; 3 4] * [5 6; 7 8] = [19 22; 43 50]; cuBLAS sees the transposes.
    let (left, right) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]);
    let (mut handle, mut result) = (null_mut(), [0.0; 4]);
    let (a, b, c) = (upload(&right, s), upload(&left, s), upload(&[f64::NAN; 4], s));
    let at = |address: u64| std::ptr::without_provenance_mut::<f64>(address as usize);
    // SAFETY: the pointers are to places of their types; those of the device are not followed here.
    unsafe {
        assert_eq!((cublasCreate_v2(&raw mut handle), cublasSetStream_v2(handle, s)), (0, 0));
        let (one, zero) = (1.0, 0.0);
        let (one, zero) = (&raw const one, &raw const zero);
        let answer = cublasDgemmStridedBatched(
            handle,
            0,
            0,
            2,
            2,
            2,
            one,
            at(a),
            2,
            4,
            at(b),
            2,
            4,
            zero,
            at(c),
            2,
            4,
            1,
        );
        assert_eq!(answer, 0);
        read_back(&mut result, c, s);
        assert_eq!(result, [19.0, 22.0, 43.0, 50.0]);
    }
    let half = |values: [f64; 4]| values.map(bf16::from_f64);
    let (a, b, c) = (upload(&half(right), s), upload(&half(left), s), upload(&[bf16::NAN; 4], s));
    let at = |address: u64| std::ptr::without_provenance_mut::<c_void>(address as usize);
    let (one, zero) = (1_f32, 0_f32);
    let (one, zero) = ((&raw const one).cast(), (&raw const zero).cast());
    let mut result = [bf16::ZERO; 4];
    for (compute, answer) in [(68, 0), (77, 15), (75, 15)] {
        // SAFETY: as above; what is refused says so.
        let found = unsafe {
            cublasGemmStridedBatchedEx(
                handle,
                0,
                0,
                2,
                2,
                2,
                one,
                at(a),
                14,
                2,
                4,
                at(b),
                14,
                2,
                4,
                zero,
                at(c),
                14,
                2,
                4,
                1,
                compute,
                99,
            )
        };
        assert_eq!(found, answer);
    }
    read_back(&mut result, c, s);
    assert_eq!(result, half([19.0, 22.0, 43.0, 50.0]));
    // SAFETY: there are no pointers.
    unsafe { assert_eq!((cublasDestroy_v2(handle), cublasDestroy_v2(handle)), (0, 1)) };
}

#[test]
fn random_numbers_as_candle_asks_for_them() {
    let _device = device();
    let s = stream();
    let address = upload(&[0_f64; 8], s);
    let (mut generator, mut uniform, mut normal) = (null_mut(), [0_f32; 2], [0_f64; 2]);
    let at = |address: u64| std::ptr::without_provenance_mut::<f64>(address as usize);
    // SAFETY: the pointers are to places of their types; those of the device are not followed here.
    unsafe {
        assert_eq!(curandCreateGenerator(&raw mut generator, 100), 0);
        assert_eq!(
            (curandSetStream(generator, s), curandSetPseudoRandomGeneratorSeed(generator, 299_792_458)),
            (0, 0)
        );
        assert_eq!(curandGenerateUniform(generator, at(address).cast(), 2), 0);
        assert_eq!(curandGenerateNormalDouble(generator, at(address + 8), 3, 0.0, 1.0), 105);
        assert_eq!(curandGenerateNormalDouble(generator, at(address + 8), 2, 0.0, 0.0), 0);
        assert_eq!((curandDestroyGenerator(generator), curandDestroyGenerator(generator)), (0, 101));
    }
    read_back(&mut uniform, address, s);
    read_back(&mut normal, address + 8, s);
    // NVIDIA's library gives these two.
    assert_eq!((uniform, normal), ([0.107_063_3, 0.563_517], [0.0, 0.0]));
}

#[test]
fn counts_are_there_for_tests() {
    let _device = device();
    let s = stream();
    // SAFETY: there are no pointers.
    assert_eq!(unsafe { simcuda_reset_counts() }, 0);
    assert_eq!(counts(), Counts::default());
    let address = upload(&[0_u8; 100], s);
    let mut read = [0_u8; 10];
    read_back(&mut read, address, s);
    let expected = Counts {
        allocations: 1,
        allocated_bytes: 100,
        uploads: 1,
        upload_bytes: 100,
        read_backs: 1,
        read_back_bytes: 10,
        ..Counts::default()
    };
    assert_eq!(counts(), expected);
    let count = |name: &std::ffi::CStr| {
        let mut count = 0;
        // SAFETY: the pointers are to a string and to a place for a number.
        let code = unsafe { simcuda_count(name.as_ptr(), &raw mut count) };
        (code, count)
    };
    assert_eq!((count(c"bytes uploaded"), count(c"read-backs")), ((0, 100), (0, 1)));
    assert_eq!(count(c"uploads of Tuesday"), (500, 0), "no such count");
}

#[test]
fn transfers_are_refused_and_allowed_again() {
    let _device = device();
    let s = stream();
    let address = upload(&[7_u8; 4], s);
    let mut read = [0_u8; 4];
    // SAFETY: the pointers are to 4 bytes.
    unsafe {
        assert_eq!(simcuda_refuse_transfers(1), 0);
        assert_eq!(cuMemcpyDtoHAsync_v2(read.as_mut_ptr().cast(), address, 4, s), 800);
        assert_eq!(cuMemcpyHtoDAsync_v2(address, read.as_ptr().cast(), 4, s), 800);
        assert_eq!(simcuda_refuse_transfers(0), 0);
    }
    read_back(&mut read, address, s);
    assert_eq!(read, [7; 4]);
}
