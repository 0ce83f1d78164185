//! Allocations, frees, copies and fills, and what is wrong with them.

use super::*;

#[test]
fn memory_runs_out_only_after_frees_that_wait_have_run() {
    let mut f = Fixture::with(Settings { memory: 100, ..Settings::default() });
    let stream = f.stream();
    let a = f.device.allocate_async(80, stream).expect("room");
    f.device.free_async(a, stream).expect("right");
    assert_eq!(f.device.memory_info(), Ok((20, 100)), "the free waits");
    let b = f.device.allocate_async(80, stream).expect("room once the free has run");
    assert_ne!(a, b);
    assert_eq!(f.device.allocate_async(21, stream), Err(Error::OUT_OF_MEMORY));
    assert_eq!(f.device.allocate(u64::MAX), Err(Error::OUT_OF_MEMORY));
    assert_eq!(f.device.allocate(20).map(|_| ()), Ok(()), "out of memory ends nothing");
}

#[test]
fn what_is_freed_twice_or_not_at_its_start_is_refused() {
    let mut f = Fixture::new();
    let stream = f.stream();
    let a = f.device.allocate_async(8, stream).expect("room");
    let b = f.device.allocate(8).expect("room");
    assert_eq!(f.device.free_async(a + 1, stream), Err(Error::INVALID_VALUE));
    assert_eq!(f.device.free_async(a, stream), Ok(()));
    assert_eq!(f.device.free_async(a, stream), Err(Error::INVALID_VALUE), "the free waits, and is known");
    assert_eq!(
        (f.device.free(b), f.device.free(b), f.device.free(0)),
        (Ok(()), Err(Error::INVALID_VALUE), Err(Error::INVALID_VALUE))
    );
    assert_eq!(f.device.free_pinned(0x1000), Err(Error::INVALID_VALUE));
    assert_eq!(f.device.synchronize(), Ok(()));
}

#[test]
fn the_plain_free_waits_for_plain_memory_and_not_for_ordered_memory() {
    let mut f = Fixture::new();
    let stream = f.stream();
    let plain = f.device.allocate(4).expect("room");
    f.push(plain, 1, stream).expect("right");
    assert_eq!(f.device.free(plain), Ok(()), "the launch ran before");
    let ordered = f.device.allocate_async(4, stream).expect("room");
    f.push(ordered, 1, stream).expect("right");
    assert_eq!(f.device.free(ordered), Ok(()));
    assert_eq!(f.device.synchronize(), Err(Error::ILLEGAL_ADDRESS), "the launch came behind");
}

#[test]
fn nothing_is_a_size_too() {
    let mut f = Fixture::new();
    let stream = f.stream();
    assert_eq!(f.device.allocate(0), Err(Error::INVALID_VALUE));
    let empty = f.device.allocate_async(0, stream).expect("an address");
    f.device.upload_async(empty, &[], stream).expect("nothing to do");
    f.device.fill(empty, Pattern::Byte(0), 0, stream).expect("nothing to do");
    f.device.copy(empty, empty, 0, stream).expect("nothing to do");
    assert_eq!(f.device.upload_async(empty, &[1], stream), Err(Error::INVALID_VALUE));
    f.device.free_async(empty, stream).expect("right");
    assert_eq!(f.device.synchronize(), Ok(()));
}

#[test]
fn transfers_are_refused_while_a_test_says_so() {
    let mut f = Fixture::new();
    let stream = f.stream();
    let (a, b) = (f.device.allocate(4).expect("room"), f.device.allocate(4).expect("room"));
    f.device.refuse_transfers(true);
    let mut four = [0; 4];
    for answer in [
        f.device.upload_async(a, &[0; 4], stream),
        f.device.upload(a, &[0; 4]),
        f.device.read_back_async(&mut four, a, stream),
        f.device.read_back(&mut four, a),
    ] {
        assert_eq!(answer, Err(Error::NOT_PERMITTED));
    }
    f.device.fill(a, Pattern::Word(7), 1, stream).expect("no transfer");
    f.device.copy(b, a, 4, stream).expect("no transfer");
    f.device.upload_async(a, &[], stream).expect("nothing to do");
    f.device.refuse_transfers(false);
    f.device.read_back_async(&mut four, b, stream).expect("allowed again");
    assert_eq!(
        (four, f.device.report().counts.read_backs),
        ([7, 0, 0, 0], 1),
        "what was refused does not count"
    );
}

#[test]
fn ranges_outside_of_an_allocation_are_refused_when_they_are_asked_for() {
    let mut f = Fixture::new();
    let stream = f.stream();
    let (a, b) = (f.device.allocate(8).expect("room"), f.device.allocate(4).expect("room"));
    let mut nine = [0; 9];
    for answer in [
        f.device.upload_async(a, &[0; 9], stream),
        f.device.upload(a + 8, &[0; 1]),
        f.device.read_back_async(&mut nine, a, stream),
        f.device.read_back(&mut nine, a),
        f.device.copy(a, b, 5, stream),
        f.device.copy(b, a, 5, stream),
        f.device.fill(a, Pattern::Word(1), 3, stream),
        f.device.fill(a + 1, Pattern::Word(1), 1, stream),
        f.device.fill(a, Pattern::Word(1), usize::MAX, stream),
    ] {
        assert_eq!(answer, Err(Error::INVALID_VALUE));
    }
    assert_eq!(f.device.synchronize(), Ok(()), "none of them ends the context");
}

#[test]
fn what_nothing_has_written_is_not_read_back() {
    for pinned in [false, true] {
        let mut f = Fixture::new();
        let (stream, bytes) = (f.stream(), f.pinned());
        let (a, b) = (f.device.allocate(4).expect("room"), f.device.allocate(4).expect("room"));
        f.device.fill(a, Pattern::Byte(1), 3, stream).expect("right");
        f.device.copy(b, a, 4, stream).expect("a copy is no use");
        let answer = if pinned {
            f.device.read_back_async(bytes, b, stream).and_then(|()| f.device.synchronize())
        } else {
            f.read(b, stream).map(|_| ())
        };
        assert_eq!(answer, Err(Error::LAUNCH_FAILED));
        assert_eq!(f.device.fault().expect("a fault").kind, FaultKind::UninitializedGlobal);
    }
    let mut f = Fixture::with(Settings { uninitialized_global: false, ..Settings::default() });
    let a = f.device.allocate(4).expect("room");
    assert_eq!(f.read(a, 0), Ok(u32::MAX));
}

#[test]
fn fills_and_copies_do_what_they_say() {
    let mut f = Fixture::new();
    let stream = f.stream();
    let (a, b) = (f.device.allocate(8).expect("room"), f.device.allocate(8).expect("room"));
    let mut bytes = [0; 8];
    for address in [a, b] {
        f.device.fill(address, Pattern::Byte(0xff), 8, stream).expect("right");
    }
    for (pattern, count, expected) in [
        (Pattern::Byte(1), 3, [1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (Pattern::Short(0x0302), 2, [2, 3, 2, 3, 0xff, 0xff, 0xff, 0xff]),
        (Pattern::Word(0x0706_0504), 2, [4, 5, 6, 7, 4, 5, 6, 7]),
    ] {
        f.device.fill(a, pattern, count, stream).expect("right");
        f.device.read_back_async(&mut bytes, a, stream).expect("right");
        assert_eq!(bytes, expected);
    }
    f.device.copy(b + 2, a + 1, 5, stream).expect("right");
    f.device.copy(a + 1, a, 4, stream).expect("right");
    f.device.read_back_async(&mut bytes, b, stream).expect("right");
    assert_eq!(bytes, [0xff, 0xff, 5, 6, 7, 4, 5, 0xff]);
    f.device.read_back_async(&mut bytes, a, stream).expect("right");
    assert_eq!(bytes, [4, 4, 5, 6, 7, 5, 6, 7], "as if the source was read first");
}
