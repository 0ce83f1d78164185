//! When work is done, and in which order.

use std::collections::BTreeSet;

use super::*;

#[test]
fn nothing_runs_before_somebody_waits() {
    let mut f = Fixture::new();
    let (stream, number) = (f.stream(), f.number());
    let seen = |f: &Fixture| f.device.machine.memory.get(number, 1).expect("inside")[0];
    f.push(number, 7, stream).expect("right");
    assert_eq!(seen(&f), 0);
    f.device.synchronize_stream(stream).expect("no fault");
    assert_eq!(seen(&f), 7);

    let event = f.device.create_event(2).expect("an event");
    assert_eq!(f.device.query_event(event), Ok(()), "it stands for no work yet");
    f.push(number, 1, stream).expect("right");
    f.device.record(event, stream).expect("right");
    f.push(number, 2, stream).expect("right");
    f.device.synchronize_event(event).expect("no fault");
    assert_eq!(seen(&f), 71, "what comes behind the event waits on");
    assert_eq!(f.device.query_event(event), Ok(()));
    assert_eq!(f.device.query_stream(stream), Err(Error::NOT_READY));
    let asked = (0..10).find(|_| f.device.query_stream(stream).is_ok());
    assert!(asked.is_some(), "asking again and again ends");
    f.push(number, 3, stream).expect("right");
    assert_eq!(f.read(number, stream), Ok(7123), "a copy to pageable memory waits for its stream");
}

#[test]
fn pageable_memory_is_staged_and_pinned_memory_is_read_when_the_copy_runs() {
    let mut f = Fixture::new();
    let (stream, number) = (f.stream(), f.number());
    let mut pageable = [1, 0, 0, 0];
    f.device.upload_async(number, &pageable, stream).expect("right");
    pageable[0] = 2;
    assert_eq!((f.read(number, stream), pageable[0]), (Ok(1), 2));

    let pinned = f.pinned();
    pinned[0] = 3;
    f.device.upload_async(number, pinned, stream).expect("right");
    pinned[0] = 4;
    assert_eq!(f.read(number, stream), Ok(4), "the copy ran after the change");

    f.push(number, 5, stream).expect("right");
    f.device.read_back_async(pinned, number, stream).expect("right");
    assert_eq!(pinned[0], 4, "a host that does not wait sees old data");
    f.device.synchronize_stream(stream).expect("no fault");
    assert_eq!(pinned[0], 45);
}

#[test]
fn blocking_copies_wait_for_the_default_stream_alone() {
    let found: BTreeSet<u8> = (0..50)
        .map(|seed| {
            let mut f = Fixture::in_order(Order::Seeded(seed));
            let (other, blocking, number) =
                (f.stream(), f.device.create_stream(0).expect("a stream"), f.number());
            f.push(number, 1, blocking).expect("right");
            f.push(number, 2, other).expect("right");
            let mut bytes = [9; 4];
            f.device.read_back(&mut bytes, number).expect("no fault");
            bytes[0]
        })
        .collect();
    assert_eq!(found, [1, 12, 21].into(), "a stream that is not blocking may come behind");

    let mut f = Fixture::new();
    let number = f.number();
    // The bytes are staged when the call returns, and on the device when the stream has run.
    let mut from = [3, 0, 0, 0];
    f.device.upload(number, &from).expect("right");
    from[0] = 4;
    assert_ne!(f.device.machine.memory.get(number, 1).expect("inside")[0], 3);
    f.device.synchronize().expect("no fault");
    assert_eq!((f.read(number, 0), from[0]), (Ok(3), 4));
}

/// What two streams leave in a number, over many orders.
fn outcomes(events: bool) -> BTreeSet<u32> {
    [Order::Forward, Order::Reversed]
        .into_iter()
        .chain((0..50).map(Order::Seeded))
        .map(|order| {
            let mut f = Fixture::in_order(order);
            let (a, b, number) = (f.stream(), f.stream(), f.number());
            f.push(number, 1, a).expect("right");
            if events {
                let event = f.device.create_event(2).expect("an event");
                f.device.record(event, a).expect("right");
                f.device.wait(b, event).expect("right");
                f.device.destroy_event(event).expect("a wait for it goes on");
            }
            f.push(number, 2, b).expect("right");
            f.device.synchronize().expect("no fault");
            f.read(number, 0).expect("no fault")
        })
        .collect()
}

#[test]
fn a_missing_event_shows_in_some_order_and_an_event_gives_one() {
    assert_eq!(outcomes(true), [12].into());
    assert_eq!(outcomes(false), [12, 21].into());
}

#[test]
fn an_event_that_is_recorded_again_leaves_older_waits_as_they_were() {
    let mut f = Fixture::new();
    let (a, b, number) = (f.stream(), f.stream(), f.number());
    let event = f.device.create_event(2).expect("an event");
    f.push(number, 1, a).expect("right");
    f.device.record(event, a).expect("right");
    f.device.wait(b, event).expect("right");
    f.push(number, 2, b).expect("right");
    f.push(number, 3, a).expect("right");
    f.device.record(event, a).expect("right");
    f.device.synchronize_stream(b).expect("no fault");
    assert_eq!(
        f.device.query_event(event),
        Err(Error::NOT_READY),
        "3 comes behind, and reversed is not first"
    );
    assert_eq!(f.read(number, a), Ok(123));
}

#[test]
fn memory_that_was_freed_in_another_stream_faults_if_the_free_comes_first() {
    for (order, fault) in [(Order::Forward, false), (Order::Reversed, true)] {
        let mut f = Fixture::in_order(order);
        let (a, b) = (f.stream(), f.stream());
        let address = f.device.allocate_async(4, a).expect("room");
        f.push(address, 1, b).expect("right");
        f.device.free_async(address, a).expect("right");
        let answer = f.device.synchronize();
        assert_eq!(answer, if fault { Err(Error::ILLEGAL_ADDRESS) } else { Ok(()) });
    }
}

#[test]
fn each_thread_has_a_default_stream_of_its_own() {
    let mut f = Fixture::in_order(Order::Reversed);
    let number = f.number();
    f.push(number, 1, 2).expect("right");
    f.device.enter(2);
    assert_eq!(f.push(number, 2, 2), Err(Error::INVALID_CONTEXT), "a context is current in a thread");
    f.device.set_current(CONTEXT).expect("it is there");
    f.push(number, 2, 2).expect("right");
    f.device.synchronize().expect("no fault");
    assert_eq!(f.read(number, 0), Ok(21), "nothing orders the two");
    // The legacy default stream orders both.
    f.push(number, 3, 2).expect("right");
    f.push(number, 4, 0).expect("right");
    f.device.enter(1);
    f.push(number, 5, 2).expect("right");
    f.device.synchronize().expect("no fault");
    assert_eq!(f.read(number, 0), Ok(21345));
}

#[test]
fn a_destroyed_stream_still_does_its_work() {
    let mut f = Fixture::new();
    let (stream, number) = (f.stream(), f.number());
    f.push(number, 1, stream).expect("right");
    f.device.destroy_stream(stream).expect("right");
    assert_eq!(f.push(number, 2, stream), Err(Error::INVALID_HANDLE));
    assert_eq!(f.device.destroy_stream(stream), Err(Error::INVALID_HANDLE));
    f.device.synchronize().expect("no fault");
    assert_eq!(f.read(number, 0), Ok(1));
    for handle in [0, 1, 2] {
        assert_eq!(f.device.destroy_stream(handle), Err(Error::INVALID_HANDLE));
    }
    assert_eq!(f.device.create_stream(2), Err(Error::INVALID_VALUE));
}
