//! Graphs: what a launch does, and whose the memory is.

use std::collections::BTreeSet;

use super::*;
use crate::driver::capture::CaptureMode;

const AUTO_FREE: u64 = 1;

/// A graph of what a function gives to a stream.
fn captured(f: &mut Fixture, stream: u64, body: impl FnOnce(&mut Fixture)) -> u64 {
    f.device.begin_capture(stream, CaptureMode::ThreadLocal).expect("right");
    body(f);
    f.device.end_capture(stream).expect("right")
}

#[test]
fn a_graph_runs_when_it_is_launched_with_the_parameters_of_the_capture() {
    let mut f = Fixture::new();
    let (stream, number) = (f.stream(), f.number());
    let graph = captured(&mut f, stream, |f| {
        f.push(number, 1, stream).expect("right");
        f.push(number, 2, stream).expect("right");
    });
    f.device.synchronize().expect("right");
    assert_eq!(f.read(number, stream), Ok(0), "a capture runs nothing");
    let run = f.device.instantiate(graph, 0).expect("right");
    f.device.destroy_graph(graph).expect("the executable graph stays");
    f.device.reset_counts();
    f.device.launch_graph(run, stream).expect("right");
    f.device.launch_graph(run, stream).expect("right");
    f.device.destroy_executable(run).expect("launches that wait go on");
    assert_eq!(f.read(number, stream), Ok(1212));
    assert_eq!(f.device.launch_graph(run, stream), Err(Error::INVALID_VALUE));
    assert_eq!(f.device.instantiate(graph, 0), Err(Error::INVALID_VALUE));
    let counts = f.device.report().counts;
    assert_eq!(
        (counts.launches, counts.graph_launches, counts.graph_kernels, counts.kernels_run),
        (0, 2, 4, 4)
    );
}

#[test]
fn pinned_memory_is_read_at_each_launch() {
    let mut f = Fixture::new();
    let (stream, number) = (f.stream(), f.number());
    let pinned = f.pinned();
    let graph = captured(&mut f, stream, |f| f.device.upload_async(number, pinned, stream).expect("right"));
    let run = f.device.instantiate(graph, 0).expect("right");
    for value in [5, 6] {
        pinned[0] = value;
        f.device.launch_graph(run, stream).expect("right");
        assert_eq!(f.read(number, stream), Ok(value.into()));
    }
    assert_eq!(f.device.report().counts.uploads, 2);
}

#[test]
fn memory_of_a_graph_is_fresh_at_each_launch_and_gone_behind_its_free() {
    let mut f = Fixture::new();
    let (stream, number) = (f.stream(), f.number());
    let mut inside = 0;
    let graph = captured(&mut f, stream, |f| {
        inside = f.device.allocate_async(4, stream).expect("right");
        f.device.fill(inside, Pattern::Byte(0), 4, stream).expect("right");
        f.push(inside, 7, stream).expect("right");
        f.device.copy(number, inside, 4, stream).expect("right");
        f.device.free_async(inside, stream).expect("right");
    });
    let used = f.device.machine.memory.used();
    let run = f.device.instantiate(graph, 0).expect("right");
    assert_eq!(
        f.device.instantiate(graph, 0),
        Err(Error::INVALID_VALUE),
        "one at a time, since it owns memory"
    );
    for _ in 0..3 {
        f.device.launch_graph(run, stream).expect("it frees what it allocates");
        assert_eq!(f.read(number, stream), Ok(7));
        assert_eq!(f.device.machine.memory.used(), used);
    }
    assert_eq!(f.device.free_async(inside, stream), Err(Error::INVALID_VALUE), "the graph frees it");
    f.push(inside, 1, stream).expect("not known yet");
    assert_eq!(f.device.synchronize(), Err(Error::ILLEGAL_ADDRESS), "a use outside of the launch is a fault");
}

#[test]
fn a_use_behind_the_free_in_a_graph_is_a_fault() {
    let mut f = Fixture::new();
    let stream = f.stream();
    let graph = captured(&mut f, stream, |f| {
        let inside = f.device.allocate_async(4, stream).expect("right");
        f.device.free_async(inside, stream).expect("right");
        f.push(inside, 1, stream).expect("not known yet");
    });
    let run = f.device.instantiate(graph, 0).expect("right");
    f.device.launch_graph(run, stream).expect("not known yet");
    assert_eq!(f.device.synchronize_stream(stream), Err(Error::ILLEGAL_ADDRESS));
}

#[test]
fn memory_that_a_graph_does_not_free_is_freed_before_it_is_launched_again() {
    for automatic in [false, true] {
        let mut f = Fixture::new();
        let stream = f.stream();
        let mut kept = 0;
        let graph = captured(&mut f, stream, |f| {
            kept = f.device.allocate_async(4, stream).expect("right");
            f.device.fill(kept, Pattern::Byte(0), 4, stream).expect("right");
            f.push(kept, 3, stream).expect("right");
        });
        let run = f.device.instantiate(graph, if automatic { AUTO_FREE } else { 0 }).expect("right");
        f.device.launch_graph(run, stream).expect("right");
        assert_eq!(f.read(kept, stream), Ok(3), "it is there behind the launch");
        let again = f.device.launch_graph(run, stream);
        assert_eq!(again, if automatic { Ok(()) } else { Err(Error::INVALID_VALUE) });
        assert_eq!(f.device.synchronize(), Ok(()));
        f.device.free_async(kept, stream).expect("the program may free it");
        assert_eq!(f.device.free_async(kept, stream), Err(Error::INVALID_VALUE));
        f.device.launch_graph(run, stream).expect("nothing is left over");
        assert_eq!(f.read(kept, stream), Ok(3));
    }
}

#[test]
fn launches_of_one_graph_follow_each_other_in_any_streams() {
    for seed in 0..30 {
        let mut f = Fixture::in_order(Order::Seeded(seed));
        let (a, b, number) = (f.stream(), f.stream(), f.number());
        let graph = captured(&mut f, a, |f| {
            f.push(number, 1, a).expect("right");
            f.push(number, 2, a).expect("right");
        });
        let run = f.device.instantiate(graph, 0).expect("right");
        f.device.launch_graph(run, a).expect("right");
        f.push(number, 3, a).expect("right");
        f.device.launch_graph(run, b).expect("right");
        f.device.synchronize().expect("no fault");
        let found = f.read(number, 0).expect("no fault");
        assert!([12312, 12123].contains(&found), "{found}");
    }
}

#[test]
fn nodes_without_an_edge_run_in_any_order() {
    let found: BTreeSet<u32> = [Order::Forward, Order::Reversed]
        .into_iter()
        .chain((0..50).map(Order::Seeded))
        .map(|order| {
            let mut f = Fixture::in_order(order);
            let (a, b, number) = (f.stream(), f.stream(), f.number());
            let event = f.device.create_event(2).expect("an event");
            let graph = captured(&mut f, a, |f| {
                f.push(number, 1, a).expect("right");
                f.device.record(event, a).expect("right");
                f.device.wait(b, event).expect("right");
                f.push(number, 2, b).expect("right");
                f.push(number, 3, a).expect("right");
                f.device.record(event, b).expect("right");
                f.device.wait(a, event).expect("right");
                f.push(number, 4, a).expect("right");
            });
            let run = f.device.instantiate(graph, 0).expect("right");
            f.device.launch_graph(run, a).expect("right");
            f.read(number, a).expect("no fault")
        })
        .collect();
    assert_eq!(found, [1234, 1324].into());
}

#[test]
fn flags_and_empty_graphs() {
    let mut f = Fixture::new();
    let stream = f.stream();
    let graph = captured(&mut f, stream, |_| {});
    assert_eq!(f.device.instantiate(graph, AUTO_FREE | 4), Err(Error::INVALID_VALUE));
    assert_eq!(f.device.instantiate(graph, 4), Err(Error::NOT_SUPPORTED));
    assert_eq!(f.device.instantiate(graph, 16), Err(Error::INVALID_VALUE));
    let run = f.device.instantiate(graph, 0).expect("right");
    assert!(f.device.instantiate(graph, 0).is_ok(), "it owns no memory");
    assert_eq!(f.device.upload_graph(run, stream), Ok(()));
    f.device.launch_graph(run, stream).expect("right");
    assert_eq!(f.device.synchronize(), Ok(()));
}

#[test]
fn a_graph_that_finds_no_room_is_refused() {
    let mut f = Fixture::with(Settings { memory: 100, ..Settings::default() });
    let stream = f.stream();
    let graph = captured(&mut f, stream, |f| {
        let address = f.device.allocate_async(80, stream).expect("right");
        f.device.free_async(address, stream).expect("right");
    });
    let run = f.device.instantiate(graph, 0).expect("right");
    let other = f.device.allocate_async(40, stream).expect("room");
    assert_eq!(f.device.launch_graph(run, stream), Err(Error::OUT_OF_MEMORY));
    f.device.free_async(other, stream).expect("right");
    assert_eq!(f.device.launch_graph(run, stream), Ok(()), "after the free");
    assert_eq!(f.device.synchronize(), Ok(()));
}
