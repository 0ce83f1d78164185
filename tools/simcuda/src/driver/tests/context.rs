//! Initialization, contexts, faults, counts.

use super::*;

#[test]
fn nothing_goes_without_initialization_and_a_context() {
    let mut device = Device::new(Settings::default());
    device.enter(1);
    assert_eq!(device.retain(0), Err(Error::NOT_INITIALIZED));
    assert_eq!(device.allocate(4), Err(Error::NOT_INITIALIZED));
    assert_eq!((device.initialize(1), device.initialize(0)), (Err(Error::INVALID_VALUE), Ok(())));
    assert_eq!((device.device(0), device.device(1)), (Ok(()), Err(Error::INVALID_DEVICE)));
    assert_eq!(device.allocate(4), Err(Error::INVALID_CONTEXT));
    assert_eq!(device.set_current(CONTEXT), Err(Error::INVALID_CONTEXT), "not retained");
    assert_eq!((device.retain(0), device.retain(0)), (Ok(CONTEXT), Ok(CONTEXT)));
    assert_eq!((device.set_current(CONTEXT), device.current()), (Ok(()), Ok(CONTEXT)));
    let address = device.allocate(4).expect("a context");
    assert_eq!(device.release(0), Ok(()));
    assert_eq!(device.fill(address, Pattern::Byte(0), 4, 0), Ok(()), "one owner is left");
    assert_eq!(device.release(0), Ok(()));
    assert_eq!(device.allocate(4), Err(Error::CONTEXT_IS_DESTROYED));
    assert_eq!(device.release(0), Err(Error::INVALID_CONTEXT));
    assert_eq!(device.retain(0), Ok(CONTEXT));
    assert_eq!(
        device.fill(address, Pattern::Byte(0), 4, 0),
        Err(Error::INVALID_VALUE),
        "memory went with it"
    );
    assert_eq!(device.memory_info(), Ok((4 << 30, 4 << 30)));
    assert_eq!((device.set_current(0), device.current()), (Ok(()), Ok(0)));
}

#[test]
fn a_fault_ends_the_context_and_each_call_says_so() {
    let mut f = Fixture::new();
    let (stream, number) = (f.stream(), f.number());
    let event = f.device.create_event(2).expect("an event");
    f.push(number, 99, stream).expect("the fault comes when it runs");
    f.push(number, 1, stream).expect("nothing is known yet");
    f.device.record(event, stream).expect("nothing is known yet");
    assert_eq!(f.device.synchronize_event(event), Err(Error::ASSERT));
    let mut bytes = [0; 4];
    for answer in [
        f.push(number, 1, stream),
        f.device.synchronize(),
        f.device.synchronize_stream(stream),
        f.device.query_event(event),
        f.device.read_back(&mut bytes, number),
        f.device.allocate(1).map(|_| ()),
        f.device.free(number),
        f.device.destroy_stream(stream),
        f.device.create_blas().map(|_| ()).map_err(|_| Error::ASSERT),
        f.device.begin_capture(stream, crate::driver::capture::CaptureMode::Relaxed),
    ] {
        assert_eq!(answer, Err(Error::ASSERT));
    }
    assert_eq!(f.device.current(), Ok(CONTEXT), "this call does not need the context");
    f.device.release(0).expect("it is there");
    f.device.retain(0).expect("there is a device");
    assert_eq!(f.device.synchronize(), Err(Error::ASSERT), "a process must end");
}

#[test]
fn faults_have_the_codes_of_the_driver() {
    for (kind, code) in [
        (FaultKind::IllegalAddress, Error::ILLEGAL_ADDRESS),
        (FaultKind::TimeOut, Error::LAUNCH_TIMEOUT),
        (FaultKind::Assert, Error::ASSERT),
        (FaultKind::IllegalInstruction, Error::ILLEGAL_INSTRUCTION),
        (FaultKind::Misaligned, Error::MISALIGNED_ADDRESS),
        (FaultKind::Race, Error::LAUNCH_FAILED),
    ] {
        assert_eq!(Error::of_fault(&Fault::new(kind, "")), code);
        assert!(Error::name_of(code.code()).is_some() && Error::words_of(code.code()).is_some());
    }
    assert_eq!(Error::INVALID_VALUE.to_string(), "CUDA_ERROR_INVALID_VALUE (1)");
    assert_eq!((Error::name_of(12345), Error::words_of(0)), (None, Some(c"no error")));
}

#[test]
fn counts_are_exact() {
    let mut f = Fixture::new();
    let (stream, number) = (f.stream(), f.number());
    f.device.reset_counts();
    let a = f.device.allocate_async(64, stream).expect("room");
    f.device.upload_async(a, &[0; 12], stream).expect("right");
    f.device.fill(a, Pattern::Word(0), 4, stream).expect("right");
    f.device.copy(a + 16, a, 8, stream).expect("right");
    f.push(number, 1, stream).expect("right");
    f.push(number, 2, stream).expect("right");
    f.device.create_event(2).expect("an event");
    f.device.free_async(a, stream).expect("right");
    assert_eq!(f.device.report().counts.kernels_run, 0);
    f.read(number, stream).expect("right");
    f.device.synchronize_stream(stream).expect("right");
    let kernels = LaunchCounts { bytes_read: 8, bytes_written: 8, ..LaunchCounts::default() };
    let expected = crate::counts::Counts {
        launches: 2,
        allocations: 1,
        allocated_bytes: 64,
        frees: 1,
        events: 1,
        uploads: 1,
        upload_bytes: 12,
        read_backs: 1,
        read_back_bytes: 4,
        device_copies: 1,
        device_copy_bytes: 8,
        fills: 1,
        fill_bytes: 16,
        synchronizations: 1,
        kernels_run: 2,
        kernels,
        ..crate::counts::Counts::default()
    };
    assert_eq!(f.device.report().counts, expected);
    assert_eq!(f.device.report().kernel("digit"), (2, kernels));
}

#[test]
fn attributes_that_are_not_there_are_refused() {
    let f = Fixture::new();
    assert_eq!((f.device.attribute(75, 0), f.device.attribute(115, 0)), (Ok(9), Ok(1)));
    assert_eq!(f.device.attribute(10_000, 0), Err(Error::NOT_SUPPORTED));
    assert_eq!(f.device.attribute(75, 1), Err(Error::INVALID_DEVICE));
}
