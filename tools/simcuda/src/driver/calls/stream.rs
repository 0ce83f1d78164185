//! Streams and events.

use super::super::capture::CaptureMode;
use super::super::error::Error;
use super::calls;
use super::pointer::Out;

fn mode(number: i32) -> Result<CaptureMode, Error> {
    CaptureMode::from_number(number).ok_or(Error::INVALID_VALUE)
}

calls! { Error;
    /// Makes a stream.
    fn cuStreamCreate(device, stream: Out<u64>, flags: u32) { stream.set(device.create_stream(flags)?) }

    /// Makes a stream of a priority, which orders nothing.
    fn cuStreamCreateWithPriority(device, stream: Out<u64>, flags: u32, _priority: i32) {
        stream.set(device.create_stream(flags)?)
    }

    /// Destroys a stream.
    fn cuStreamDestroy_v2(device, stream: u64) { device.destroy_stream(stream) }

    /// Waits for a stream.
    fn cuStreamSynchronize(device, stream: u64) { device.synchronize_stream(stream) }

    /// Whether a stream is done.
    fn cuStreamQuery(device, stream: u64) { device.query_stream(stream) }

    /// A stream waits for an event.
    fn cuStreamWaitEvent(device, stream: u64, event: u64, flags: u32) {
        if flags != 0 {
            eprintln!("simcuda: a wait for an event with flags {flags} is not there");
            return Err(Error::NOT_SUPPORTED);
        }
        device.wait(stream, event)
    }

    /// Begins a capture.
    fn cuStreamBeginCapture_v2(device, stream: u64, number: i32) { device.begin_capture(stream, mode(number)?) }

    /// Ends a capture. The graph is null if it fails.
    fn cuStreamEndCapture(device, stream: u64, graph: Out<u64>) {
        graph.set(0)?;
        graph.set(device.end_capture(stream)?)
    }

    /// Whether a stream captures.
    fn cuStreamIsCapturing(device, stream: u64, status: Out<i32>) {
        status.set(device.capture_status(stream)? as i32)
    }

    /// Exchanges the thread's mode.
    fn cuThreadExchangeStreamCaptureMode(device, number: Out<i32>) {
        let before = device.exchange_mode(mode(number.get()?)?);
        number.set(before as i32)
    }

    /// Makes an event.
    fn cuEventCreate(device, event: Out<u64>, flags: u32) { event.set(device.create_event(flags)?) }

    /// Destroys an event.
    fn cuEventDestroy_v2(device, event: u64) { device.destroy_event(event) }

    /// Records an event in a stream.
    fn cuEventRecord(device, event: u64, stream: u64) { device.record(event, stream) }

    /// Whether an event has come.
    fn cuEventQuery(device, event: u64) { device.query_event(event) }

    /// Waits for an event.
    fn cuEventSynchronize(device, event: u64) { device.synchronize_event(event) }

    /// The time between events, which is not known.
    fn cuEventElapsedTime_v2(device, _milliseconds: Out<f32>, start: u64, end: u64) { device.elapsed(start, end) }
}
