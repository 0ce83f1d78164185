//! Capture of a stream's work into a graph, with the driver's rules.
//!
//! The manual forbids what would tie captured work to work that runs: waiting for or asking about a capturing stream or
//! an event recorded there, waiting for an event of outside, the legacy default stream beside a capturing blocking
//! stream. Whatever is refused also invalidates the captures that it concerns. "Potentially unsafe" calls, of which the
//! manual names `cudaMalloc`, are refused by the modes of captures and threads; here they are the allocations and frees
//! that are not ordered by streams, the loading of modules, and all that waits or asks.

use std::collections::BTreeMap;

use super::device::{Answer, Device};
use super::error::Error;
use super::event::Place;
use super::graph::Node;
use super::stream::{LEGACY, StreamId};
use super::work::Work;

/// How a capture, or a thread, treats calls that are potentially unsafe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureMode {
    /// A capture forbids them in all threads.
    #[default]
    Global,
    /// A capture forbids them in its own thread.
    ThreadLocal,
    /// A capture forbids none.
    Relaxed,
}

impl CaptureMode {
    /// By the number in `cuda.h`.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Global),
            1 => Some(Self::ThreadLocal),
            2 => Some(Self::Relaxed),
            _ => None,
        }
    }
}

/// A capture that goes on.
#[derive(Debug)]
pub(super) struct Capture {
    origin: StreamId,
    thread: u64,
    mode: CaptureMode,
    nodes: Vec<Node>,
    /// Length, and whether a node frees it, of memory that the graph owns.
    memory: BTreeMap<u64, (u64, bool)>,
    valid: bool,
}

/// A stream that is captured: the capture, and the nodes that its next one follows.
#[derive(Debug)]
pub(super) struct Capturing {
    capture: u64,
    tail: Vec<usize>,
}

/// Whether a stream is captured (`CUstreamCaptureStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureStatus {
    /// It is not.
    None = 0,
    /// It is.
    Active = 1,
    /// It is, and a rule was broken.
    Invalidated = 2,
}

impl Device {
    /// `cuStreamBeginCapture`.
    pub fn begin_capture(&mut self, stream: u64, mode: CaptureMode) -> Answer {
        let stream = self.stream(stream)?;
        if stream == LEGACY {
            return Err(Error::CAPTURE_UNSUPPORTED);
        }
        if self.is_capturing(stream) {
            return Err(Error::INVALID_VALUE);
        }
        let capture = self.new_handle();
        let thread = self.caller();
        let fresh =
            Capture { origin: stream, thread, mode, nodes: Vec::new(), memory: BTreeMap::new(), valid: true };
        self.captures.insert(capture, fresh);
        self.capturing.insert(stream, Capturing { capture, tail: Vec::new() });
        Ok(())
    }

    /// `cuStreamEndCapture`: the handle of the graph.
    pub fn end_capture(&mut self, stream: u64) -> Answer<u64> {
        let stream = self.stream(stream)?;
        let id = self.capturing.get(&stream).ok_or(Error::INVALID_VALUE)?.capture;
        let caller = self.caller();
        let capture = self.captures.get(&id).ok_or(Error::UNKNOWN)?;
        if capture.origin != stream {
            return Err(self.refuse_in(stream, Error::CAPTURE_UNMATCHED));
        }
        if capture.mode != CaptureMode::Relaxed && capture.thread != caller {
            return Err(Error::CAPTURE_WRONG_THREAD);
        }
        let joined = self.is_joined(id, stream);
        self.capturing.retain(|_, capturing| capturing.capture != id);
        let capture = self.captures.remove(&id).ok_or(Error::UNKNOWN)?;
        if !capture.valid {
            return Err(Error::CAPTURE_INVALIDATED);
        }
        if !joined {
            return Err(Error::CAPTURE_UNJOINED);
        }
        Ok(self.add_graph(capture.nodes, capture.memory))
    }

    /// Whether each other stream's nodes come before the origin's tail.
    fn is_joined(&self, id: u64, origin: StreamId) -> bool {
        let mut before = vec![false; self.captures[&id].nodes.len()];
        let mut open = self.capturing[&origin].tail.clone();
        while let Some(node) = open.pop() {
            if !std::mem::replace(&mut before[node], true) {
                open.extend(&self.captures[&id].nodes[node].after);
            }
        }
        before.iter().all(|before| *before)
    }

    /// `cuStreamIsCapturing`.
    pub fn capture_status(&mut self, stream: u64) -> Answer<CaptureStatus> {
        let stream = self.stream(stream)?;
        self.allow_legacy(stream)?;
        let Some(capturing) = self.capturing.get(&stream) else { return Ok(CaptureStatus::None) };
        let valid = self.captures.get(&capturing.capture).is_some_and(|capture| capture.valid);
        Ok(if valid { CaptureStatus::Active } else { CaptureStatus::Invalidated })
    }

    /// `cuThreadExchangeStreamCaptureMode`: the mode before.
    pub fn exchange_mode(&mut self, mode: CaptureMode) -> CaptureMode {
        std::mem::replace(&mut self.thread().mode, mode)
    }

    /// Adds a node to the graph that a stream captures.
    pub(super) fn capture(&mut self, stream: StreamId, work: Work) -> Answer<usize> {
        let capturing = self.capturing.get_mut(&stream).ok_or(Error::UNKNOWN)?;
        let capture = self.captures.get_mut(&capturing.capture).ok_or(Error::UNKNOWN)?;
        if !capture.valid {
            return Err(Error::CAPTURE_INVALIDATED);
        }
        let node = capture.nodes.len();
        let after = std::mem::replace(&mut capturing.tail, vec![node]);
        capture.nodes.push(Node { work, after });
        Ok(node)
    }

    /// `cuMemAllocAsync` in a capture: the graph owns the memory, at the same address in each launch.
    pub(super) fn capture_allocation(&mut self, stream: StreamId, len: u64) -> Answer<u64> {
        // The address is found by an allocation that is freed at once; each launch allocates there again.
        let address = self.machine.memory.allocate(len).ok_or(Error::OUT_OF_MEMORY)?;
        self.machine.memory.free(address);
        self.capture(stream, Work::Allocate { address, len })?;
        self.captured(stream)?.memory.insert(address, (len, false));
        self.graph_memory.insert(address, len);
        Ok(address)
    }

    /// `cuMemFreeAsync` in a capture, which must be of memory that the graph owns. (A driver also frees what another graph
    /// owns.)
    pub(super) fn capture_free(&mut self, stream: StreamId, address: u64) -> Answer {
        match self.captured(stream)?.memory.get_mut(&address) {
            Some((_, freed @ false)) => *freed = true,
            _ => {
                eprintln!("simcuda: a capture frees {address:#x}, which it did not allocate or has freed");
                return Err(self.refuse_in(stream, Error::INVALID_VALUE));
            }
        }
        self.capture(stream, Work::Free { address }).map(|_| ())
    }

    fn captured(&mut self, stream: StreamId) -> Answer<&mut Capture> {
        let capturing = self.capturing.get(&stream).ok_or(Error::UNKNOWN)?;
        match self.captures.get_mut(&capturing.capture) {
            Some(capture) if capture.valid => Ok(capture),
            _ => Err(Error::CAPTURE_INVALIDATED),
        }
    }

    /// Where an event is that is recorded in a capturing stream.
    pub(super) fn capture_place(&mut self, stream: StreamId) -> Answer<Place> {
        self.captured(stream)?;
        let capturing = &self.capturing[&stream];
        Ok(Place::Capture { capture: capturing.capture, nodes: capturing.tail.clone() })
    }

    /// A stream waits for an event that was recorded in a capture: it becomes part of it, if it is none of another.
    pub(super) fn join_capture(&mut self, stream: StreamId, capture: u64, nodes: &[usize]) -> Answer {
        match self.captures.get(&capture) {
            None => return Err(Error::CAPTURED_EVENT), // the capture has ended
            Some(found) if !found.valid => return Err(Error::CAPTURE_INVALIDATED),
            Some(_) => {}
        }
        if stream == LEGACY {
            self.invalidate(capture);
            return Err(Error::CAPTURE_IMPLICIT);
        }
        let capturing =
            self.capturing.entry(stream).or_insert_with(|| Capturing { capture, tail: Vec::new() });
        if capturing.capture != capture {
            self.invalidate(capture);
            return Err(self.refuse_in(stream, Error::CAPTURE_MERGE));
        }
        for node in nodes {
            if !capturing.tail.contains(node) {
                capturing.tail.push(*node);
            }
        }
        Ok(())
    }

    /// Whether a stream is captured.
    pub(crate) fn is_capturing(&self, stream: StreamId) -> bool {
        self.capturing.contains_key(&stream)
    }

    /// Breaks a capture.
    pub(super) fn invalidate(&mut self, capture: u64) {
        if let Some(capture) = self.captures.get_mut(&capture) {
            capture.valid = false;
        }
    }

    /// Breaks the capture of a stream, and answers with the error.
    pub(crate) fn refuse_in(&mut self, stream: StreamId, error: Error) -> Error {
        if let Some(capturing) = self.capturing.get(&stream) {
            let capture = capturing.capture;
            self.invalidate(capture);
        }
        error
    }

    /// Refuses what no capturing stream allows.
    pub(super) fn refuse_capture(&mut self, stream: StreamId) -> Answer {
        if !self.is_capturing(stream) {
            return Ok(());
        }
        Err(self.refuse_in(stream, Error::CAPTURE_UNSUPPORTED))
    }

    /// Refuses what asks for all streams while one captures.
    pub(super) fn refuse_all_captures(&mut self) -> Answer {
        if self.captures.is_empty() {
            return Ok(());
        }
        self.captures.values_mut().for_each(|capture| capture.valid = false);
        Err(Error::CAPTURE_UNSUPPORTED)
    }

    /// Refuses the legacy default stream while a blocking stream captures.
    pub(super) fn allow_legacy(&mut self, stream: StreamId) -> Answer {
        if stream != LEGACY {
            return Ok(());
        }
        let blocking: Vec<u64> = self
            .capturing
            .iter()
            .filter(|(id, _)| self.streams.is_blocking(**id))
            .map(|(_, capturing)| capturing.capture)
            .collect();
        if blocking.is_empty() {
            return Ok(());
        }
        blocking.into_iter().for_each(|capture| self.invalidate(capture));
        Err(Error::CAPTURE_IMPLICIT)
    }

    /// Refuses a call that is potentially unsafe, if a capture and the thread's mode forbid it.
    pub(super) fn unsafe_call(&mut self) -> Answer {
        let thread = self.caller();
        let mode = self.thread().mode;
        let mut refused = false;
        for capture in self.captures.values_mut() {
            let forbids = match mode {
                CaptureMode::Relaxed => false,
                _ if capture.thread == thread => capture.mode != CaptureMode::Relaxed,
                CaptureMode::Global => capture.mode == CaptureMode::Global,
                CaptureMode::ThreadLocal => false,
            };
            if forbids {
                capture.valid = false;
                refused = true;
            }
        }
        if refused { Err(Error::CAPTURE_UNSUPPORTED) } else { Ok(()) }
    }
}
