//! Events: an event is a place in a stream, or in a capture.

use super::device::{Answer, Device};
use super::error::Error;
use super::stream::Position;
use super::work::Work;

/// The flags of events that take no time.
const DISABLE_TIMING: u32 = 2;

/// An event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) place: Place,
    timed: bool,
}

/// Where an event was last recorded.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Nowhere: there is nothing to wait for.
    Unrecorded,
    /// In a stream.
    Stream(Position),
    /// In a capture: behind these nodes.
    Capture { capture: u64, nodes: Vec<usize> },
}

impl Device {
    fn event(&mut self, handle: u64) -> Answer<Event> {
        self.context()?;
        self.events.get(&handle).cloned().ok_or(Error::INVALID_HANDLE)
    }

    /// `cuEventCreate`.
    pub fn create_event(&mut self, flags: u32) -> Answer<u64> {
        self.context()?;
        if flags > 7 {
            return Err(Error::INVALID_VALUE);
        }
        let handle = self.new_handle();
        self.events.insert(handle, Event { place: Place::Unrecorded, timed: flags & DISABLE_TIMING == 0 });
        self.machine.report.counts.events += 1;
        Ok(handle)
    }

    /// `cuEventDestroy`: streams that wait for it go on waiting.
    pub fn destroy_event(&mut self, handle: u64) -> Answer {
        self.event(handle)?;
        self.events.remove(&handle);
        Ok(())
    }

    /// `cuEventRecord`.
    pub fn record(&mut self, handle: u64, stream: u64) -> Answer {
        self.event(handle)?;
        let stream = self.stream(stream)?;
        let place = if self.is_capturing(stream) {
            self.capture_place(stream)?
        } else {
            self.allow_legacy(stream)?;
            Place::Stream(self.streams.push(stream, Work::Marker))
        };
        if let Some(event) = self.events.get_mut(&handle) {
            event.place = place;
        }
        Ok(())
    }

    /// `cuStreamWaitEvent`.
    pub fn wait(&mut self, stream: u64, handle: u64) -> Answer {
        let event = self.event(handle)?;
        let stream = self.stream(stream)?;
        match event.place {
            Place::Unrecorded => Ok(()),
            Place::Capture { capture, nodes } => self.join_capture(stream, capture, &nodes),
            Place::Stream(_) if self.is_capturing(stream) => {
                Err(self.refuse_in(stream, Error::CAPTURE_ISOLATION))
            }
            Place::Stream(position) => self.submit(stream, Work::Wait(position)),
        }
    }

    /// The place in a stream that a host may ask about.
    fn asked(&mut self, handle: u64) -> Answer<Option<Position>> {
        match self.event(handle)?.place {
            Place::Capture { capture, .. } => {
                self.invalidate(capture);
                Err(Error::CAPTURED_EVENT)
            }
            Place::Unrecorded => self.unsafe_call().map(|()| None),
            Place::Stream(position) => self.unsafe_call().map(|()| Some(position)),
        }
    }

    /// `cuEventQuery`: as with streams, time passes with each question.
    pub fn query_event(&mut self, handle: u64) -> Answer {
        match self.asked(handle)? {
            Some(position) if self.streams.is_pending(position) => {
                self.step()?;
                Err(Error::NOT_READY)
            }
            _ => Ok(()),
        }
    }

    /// `cuEventSynchronize`.
    pub fn synchronize_event(&mut self, handle: u64) -> Answer {
        let position = self.asked(handle)?;
        self.machine.report.counts.synchronizations += 1;
        while position.is_some_and(|position| self.streams.is_pending(position)) {
            self.step()?;
        }
        Ok(())
    }

    /// `cuEventElapsedTime`, which the device does not know: it has no time.
    pub fn elapsed(&mut self, start: u64, end: u64) -> Answer {
        for handle in [start, end] {
            let event = self.event(handle)?;
            if !event.timed || matches!(event.place, Place::Unrecorded) {
                return Err(Error::INVALID_HANDLE);
            }
        }
        eprintln!("simcuda: there is no time between events on a simulated device");
        Err(Error::NOT_SUPPORTED)
    }
}
