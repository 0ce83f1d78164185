//! What a capture refuses, and what that does to it.

use super::*;
use crate::driver::capture::{CaptureMode, CaptureStatus};

/// What a call finds.
struct Scene {
    f: Fixture,
    /// Captures, unless the test says otherwise.
    stream: u64,
    /// Does not.
    other: u64,
    /// A number that was there before.
    number: u64,
    /// An event that was recorded in `other` before.
    before: u64,
    /// An event that was recorded in the capture.
    captured: u64,
    /// An event that was never recorded.
    fresh: u64,
    pinned: &'static mut [u8],
}

impl Scene {
    fn new(mode: CaptureMode, blocking: bool) -> Self {
        let mut f = Fixture::new();
        let stream = f.device.create_stream(u32::from(!blocking)).expect("a stream");
        let (other, number, pinned) = (f.stream(), f.number(), f.pinned());
        let mut event = || f.device.create_event(2).expect("an event");
        let (before, captured, fresh) = (event(), event(), event());
        f.device.record(before, other).expect("right");
        f.device.synchronize().expect("no capture yet");
        f.device.begin_capture(stream, mode).expect("right");
        f.device.record(captured, stream).expect("right");
        Self { f, stream, other, number, before, captured, fresh, pinned }
    }

    fn status(&mut self) -> CaptureStatus {
        self.f.device.capture_status(self.stream).expect("right")
    }
}

type Call = fn(&mut Scene) -> Result<(), Error>;

/// Calls, with what they answer and whether the capture goes on, where the stream that captures is not a blocking one.
fn table() -> Vec<(&'static str, Call, Result<(), Error>, bool)> {
    use Error as E;
    vec![
        ("a launch", |s| s.f.push(s.number, 1, s.stream), Ok(()), true),
        ("a fill", |s| s.f.device.fill(s.number, Pattern::Byte(1), 4, s.stream), Ok(()), true),
        ("a copy on the device", |s| s.f.device.copy(s.number, s.number, 4, s.stream), Ok(()), true),
        (
            "a copy from pinned memory",
            |s| s.f.device.upload_async(s.number, s.pinned, s.stream),
            Ok(()),
            true,
        ),
        (
            "a copy to pinned memory",
            |s| s.f.device.read_back_async(s.pinned, s.number, s.stream),
            Ok(()),
            true,
        ),
        (
            "a copy from pageable memory",
            |s| s.f.device.upload_async(s.number, &[0; 4], s.stream),
            Err(E::CAPTURE_UNSUPPORTED),
            false,
        ),
        (
            "a host that reads",
            |s| s.f.read(s.number, s.stream).map(|_| ()),
            Err(E::CAPTURE_UNSUPPORTED),
            false,
        ),
        (
            "memory that the graph owns",
            |s| {
                let address = s.f.device.allocate_async(4, s.stream)?;
                s.f.device.free_async(address, s.stream)
            },
            Ok(()),
            true,
        ),
        (
            "a second free of what the graph owns",
            |s| {
                let address = s.f.device.allocate_async(4, s.stream)?;
                s.f.device.free_async(address, s.stream)?;
                s.f.device.free_async(address, s.stream)
            },
            Err(E::INVALID_VALUE),
            false,
        ),
        (
            "a free of memory of before",
            |s| s.f.device.free_async(s.number, s.stream),
            Err(E::INVALID_VALUE),
            false,
        ),
        (
            "a wait for the stream",
            |s| s.f.device.synchronize_stream(s.stream),
            Err(E::CAPTURE_UNSUPPORTED),
            false,
        ),
        (
            "a question to the stream",
            |s| s.f.device.query_stream(s.stream),
            Err(E::CAPTURE_UNSUPPORTED),
            false,
        ),
        ("a wait for all", |s| s.f.device.synchronize(), Err(E::CAPTURE_UNSUPPORTED), false),
        (
            "the end of the stream",
            |s| s.f.device.destroy_stream(s.stream),
            Err(E::CAPTURE_UNSUPPORTED),
            false,
        ),
        ("a wait for its event", |s| s.f.device.synchronize_event(s.captured), Err(E::CAPTURED_EVENT), false),
        ("a question to its event", |s| s.f.device.query_event(s.captured), Err(E::CAPTURED_EVENT), false),
        ("an event of outside", |s| s.f.device.wait(s.stream, s.before), Err(E::CAPTURE_ISOLATION), false),
        ("an event of nowhere", |s| s.f.device.wait(s.stream, s.fresh), Ok(()), true),
        (
            "the legacy stream at its event",
            |s| s.f.device.wait(0, s.captured),
            Err(E::CAPTURE_IMPLICIT),
            false,
        ),
        ("work in another stream", |s| s.f.push(s.number, 1, s.other), Ok(()), true),
        ("work in the legacy stream", |s| s.f.push(s.number, 1, 0), Ok(()), true),
        ("memory in another stream", |s| s.f.device.allocate_async(4, s.other).map(|_| ()), Ok(()), true),
        ("a new stream", |s| s.f.device.create_stream(0).map(|_| ()), Ok(()), true),
        ("a new event", |s| s.f.device.create_event(2).map(|_| ()), Ok(()), true),
        (
            "a second capture",
            |s| s.f.device.begin_capture(s.stream, CaptureMode::Relaxed),
            Err(E::INVALID_VALUE),
            true,
        ),
        ("the end elsewhere", |s| s.f.device.end_capture(s.other).map(|_| ()), Err(E::INVALID_VALUE), true),
        (
            "the end in a stream that joined",
            |s| {
                s.f.device.wait(s.other, s.captured)?;
                s.f.device.end_capture(s.other).map(|_| ())
            },
            Err(E::CAPTURE_UNMATCHED),
            false,
        ),
        (
            "a merge with another capture",
            |s| {
                s.f.device.begin_capture(s.other, CaptureMode::Relaxed)?;
                s.f.device.wait(s.other, s.captured)
            },
            Err(E::CAPTURE_MERGE),
            false,
        ),
        (
            "random numbers of cuRAND",
            |s| {
                let handle = s.f.device.create_generator(crate::rand::Kind::Xorwow).expect("a context");
                s.f.device.generator(handle).expect("it is there").set_stream(s.stream);
                let answer = s.f.device.generate(handle, crate::rand::Distribution::Bits, s.number, 1);
                answer.map_err(|_| E::CAPTURE_UNSUPPORTED)
            },
            Err(E::CAPTURE_UNSUPPORTED),
            false,
        ),
    ]
}

#[test]
fn calls_are_refused_by_the_table_in_every_mode() {
    for mode in [CaptureMode::Global, CaptureMode::ThreadLocal, CaptureMode::Relaxed] {
        for (name, call, answer, goes_on) in table() {
            let mut scene = Scene::new(mode, false);
            assert_eq!(call(&mut scene), answer, "{name} in {mode:?}");
            let status = if goes_on { CaptureStatus::Active } else { CaptureStatus::Invalidated };
            assert_eq!(scene.status(), status, "{name} in {mode:?}");
            if goes_on {
                continue;
            }
            // Whatever is captured then is refused, and the end says so and leaves no graph.
            assert_eq!(
                scene.f.push(scene.number, 1, scene.stream),
                Err(Error::CAPTURE_INVALIDATED),
                "{name}"
            );
            assert_eq!(scene.f.device.end_capture(scene.stream), Err(Error::CAPTURE_INVALIDATED), "{name}");
            assert_eq!(scene.status(), CaptureStatus::None);
            assert!(scene.f.device.graphs.is_empty());
            assert_eq!(scene.f.push(scene.number, 1, scene.stream), Ok(()));
        }
    }
}

#[test]
fn potentially_unsafe_calls_are_refused_by_the_modes_of_capture_and_thread() {
    let calls: [(&str, Call); 8] = [
        ("an allocation", |s| s.f.device.allocate(4).map(|_| ())),
        ("a free", |s| s.f.device.free(s.number)),
        ("pinned memory", |s| s.f.device.allocate_pinned(4).map(|_| ())),
        ("a blocking copy", |s| s.f.device.upload(s.number, &[0; 4])),
        ("a blocking read", |s| s.f.device.read_back(&mut [0; 4], s.number)),
        ("a wait for another stream", |s| s.f.device.synchronize_stream(s.other)),
        ("a question to an event of outside", |s| s.f.device.query_event(s.before)),
        ("a module", |s| match s.f.device.load_module(b"no PTX") {
            Err(Error::INVALID_PTX) => Ok(()),
            answer => answer.map(|_| ()),
        }),
    ];
    use CaptureMode::{Global, Relaxed, ThreadLocal};
    for (capture, thread, same_thread, allowed) in [
        (Global, Global, true, false),
        (ThreadLocal, Global, true, false),
        (Relaxed, Global, true, true),
        (Global, ThreadLocal, true, false),
        (ThreadLocal, ThreadLocal, true, false),
        (Global, Relaxed, true, true),
        (ThreadLocal, Relaxed, true, true),
        (Global, Global, false, false),
        (ThreadLocal, Global, false, true),
        (Relaxed, Global, false, true),
        (Global, ThreadLocal, false, true),
        (Global, Relaxed, false, true),
    ] {
        for (name, call) in calls {
            let mut scene = Scene::new(capture, false);
            if !same_thread {
                scene.f.device.enter(2);
                scene.f.device.set_current(CONTEXT).expect("it is there");
            }
            assert_eq!(scene.f.device.exchange_mode(thread), Global, "each thread begins with it");
            let answer = if allowed { Ok(()) } else { Err(Error::CAPTURE_UNSUPPORTED) };
            assert_eq!(call(&mut scene), answer, "{name}: {capture:?} {thread:?} {same_thread}");
            let status = if allowed { CaptureStatus::Active } else { CaptureStatus::Invalidated };
            assert_eq!(scene.status(), status, "{name}: {capture:?} {thread:?} {same_thread}");
        }
    }
}

#[test]
fn the_legacy_stream_is_refused_beside_a_blocking_stream_that_captures() {
    let calls: [(&str, Call); 7] = [
        ("a launch", |s| s.f.push(s.number, 1, 0)),
        ("a fill", |s| s.f.device.fill(s.number, Pattern::Byte(0), 4, 0)),
        ("memory", |s| s.f.device.allocate_async(4, 0).map(|_| ())),
        ("an event", |s| s.f.device.record(s.fresh, 0)),
        ("a wait", |s| s.f.device.synchronize_stream(0)),
        ("a blocking read", |s| s.f.device.read_back(&mut [0; 4], s.number)),
        ("a question", |s| s.f.device.query_stream(0)),
    ];
    for (name, call) in calls {
        let mut scene = Scene::new(CaptureMode::Relaxed, true);
        assert_eq!(call(&mut scene), Err(Error::CAPTURE_IMPLICIT), "{name}");
        assert_eq!(scene.status(), CaptureStatus::Invalidated, "{name}");
    }
    let mut f = Fixture::new();
    assert_eq!(f.device.begin_capture(0, CaptureMode::Relaxed), Err(Error::CAPTURE_UNSUPPORTED));
    assert_eq!(f.device.begin_capture(2, CaptureMode::Relaxed), Ok(()), "a thread's own stream may");
}

#[test]
fn a_capture_ends_in_its_thread_unless_it_is_relaxed() {
    for (mode, answer) in [
        (CaptureMode::Global, Err(Error::CAPTURE_WRONG_THREAD)),
        (CaptureMode::ThreadLocal, Err(Error::CAPTURE_WRONG_THREAD)),
        (CaptureMode::Relaxed, Ok(())),
    ] {
        let mut scene = Scene::new(mode, false);
        scene.f.device.enter(2);
        scene.f.device.set_current(CONTEXT).expect("it is there");
        assert_eq!(scene.f.device.end_capture(scene.stream).map(|_| ()), answer, "{mode:?}");
    }
}

#[test]
fn streams_fork_and_must_join() {
    let mut scene = Scene::new(CaptureMode::Relaxed, false);
    let (a, b) = (scene.stream, scene.other);
    let f = &mut scene.f;
    f.push(scene.number, 1, a).expect("right");
    f.device.record(scene.captured, a).expect("right");
    f.device.wait(b, scene.captured).expect("right");
    assert_eq!(f.device.capture_status(b), Ok(CaptureStatus::Active));
    f.push(scene.number, 2, b).expect("right");
    assert_eq!(f.device.end_capture(a), Err(Error::CAPTURE_UNJOINED));
    assert_eq!(f.device.capture_status(b), Ok(CaptureStatus::None), "both streams are free again");
    assert_eq!(f.device.wait(b, scene.captured), Err(Error::CAPTURED_EVENT), "its capture has ended");

    f.device.begin_capture(a, CaptureMode::Relaxed).expect("right");
    f.push(scene.number, 1, a).expect("right");
    f.device.record(scene.captured, a).expect("right");
    f.device.wait(b, scene.captured).expect("right");
    f.push(scene.number, 2, b).expect("right");
    f.device.record(scene.captured, b).expect("right");
    f.device.wait(a, scene.captured).expect("right");
    f.push(scene.number, 3, a).expect("right");
    let graph = f.device.end_capture(a).expect("joined");
    let graph = f.device.instantiate(graph, 0).expect("right");
    f.device.launch_graph(graph, a).expect("right");
    assert_eq!(f.read(scene.number, a), Ok(123));
}
