//! Copies and fills. The manual's section on synchronization says when the host may go on: bytes from pageable memory are
//! staged when the copy is asked for, copies into pageable memory are finished when the call returns, and pinned memory
//! is read and written when the work runs.

use std::backtrace::Backtrace;

use super::device::{Answer, Device};
use super::error::Error;
use super::stream::{LEGACY, StreamId};
use super::work::{Pattern, Work};

impl Device {
    /// Refuses copies between host and device from now on, or allows them again.
    pub fn refuse_transfers(&mut self, refuse: bool) {
        self.settings.refuse_transfers = refuse;
    }

    /// An error if transfers are refused, with the stack of the program on the standard error stream: the driver's error
    /// has no place for it.
    fn check_transfer(&self, what: &str, len: usize) -> Answer {
        if !self.settings.refuse_transfers {
            return Ok(());
        }
        eprintln!(
            "simcuda: {what} of {len} bytes, while transfers are refused\n{}",
            Backtrace::force_capture()
        );
        Err(Error::NOT_PERMITTED)
    }

    /// The work that is a copy from the host.
    fn upload_work(&self, to: u64, from: &[u8]) -> Work {
        let address = from.as_ptr().expose_provenance();
        if self.machine.pinned.contains(address, from.len()) {
            return Work::WritePinned { to, from: address, len: from.len() };
        }
        Work::Write { to, bytes: from.into() }
    }

    /// `cuMemcpyHtoDAsync`.
    pub fn upload_async(&mut self, to: u64, from: &[u8], stream: u64) -> Answer {
        let stream = self.stream(stream)?;
        if from.is_empty() {
            return Ok(());
        }
        self.check_transfer("an upload", from.len())?;
        self.check_range(to, from.len())?;
        let work = self.upload_work(to, from);
        if matches!(work, Work::Write { .. }) {
            self.refuse_pageable(stream)?;
        }
        self.submit(stream, work)
    }

    /// `cuMemcpyHtoD`: after what is in the default stream. Pageable memory is free again when it returns, but the bytes
    /// need not be on the device yet.
    pub fn upload(&mut self, to: u64, from: &[u8]) -> Answer {
        self.begin_blocking()?;
        if from.is_empty() {
            return Ok(());
        }
        self.check_transfer("an upload", from.len())?;
        self.check_range(to, from.len())?;
        self.finish_stream(LEGACY)?;
        let work = self.upload_work(to, from);
        let pinned = matches!(work, Work::WritePinned { .. });
        self.submit(LEGACY, work)?;
        if pinned { self.finish_stream(LEGACY) } else { Ok(()) }
    }

    /// `cuMemcpyDtoHAsync`.
    pub fn read_back_async(&mut self, to: &mut [u8], from: u64, stream: u64) -> Answer {
        let stream = self.stream(stream)?;
        if to.is_empty() {
            return Ok(());
        }
        self.check_transfer("a read-back", to.len())?;
        self.check_range(from, to.len())?;
        let address = to.as_ptr().expose_provenance();
        if self.machine.pinned.contains(address, to.len()) {
            return self.submit(stream, Work::ReadPinned { to: address, from, len: to.len() });
        }
        self.refuse_pageable(stream)?;
        self.allow_legacy(stream)?;
        self.read_now(to, from, stream)
    }

    /// `cuMemcpyDtoH`.
    pub fn read_back(&mut self, to: &mut [u8], from: u64) -> Answer {
        self.begin_blocking()?;
        if to.is_empty() {
            return Ok(());
        }
        self.check_transfer("a read-back", to.len())?;
        self.check_range(from, to.len())?;
        self.read_now(to, from, LEGACY)
    }

    /// Reads after the stream's work.
    fn read_now(&mut self, to: &mut [u8], from: u64, stream: StreamId) -> Answer {
        self.finish_stream(stream)?;
        match self.machine.memory.read(from, to.len()) {
            Ok(bytes) => to.copy_from_slice(bytes),
            Err(mut fault) => {
                fault.place = "a copy to the host".to_owned();
                return Err(self.lose(fault));
            }
        }
        self.machine.report.counts.read_backs += 1;
        self.machine.report.counts.read_back_bytes += to.len() as u64;
        Ok(())
    }

    /// `cuMemcpyDtoDAsync`, and `cuMemcpyDtoD` by the default stream: neither makes the host wait.
    pub fn copy(&mut self, to: u64, from: u64, len: usize, stream: u64) -> Answer {
        let stream = self.stream(stream)?;
        if len == 0 {
            return Ok(());
        }
        self.check_range(from, len)?;
        self.check_range(to, len)?;
        self.submit(stream, Work::Copy { to, from, len })
    }

    /// `cuMemsetD8Async` and its like; those without `Async` are in the default stream, and make no host wait either.
    pub fn fill(&mut self, to: u64, pattern: Pattern, count: usize, stream: u64) -> Answer {
        let stream = self.stream(stream)?;
        if count == 0 {
            return Ok(());
        }
        let len = count.checked_mul(pattern.size()).ok_or(Error::INVALID_VALUE)?;
        if !to.is_multiple_of(pattern.size() as u64) {
            return Err(Error::INVALID_VALUE);
        }
        self.check_range(to, len)?;
        self.submit(stream, Work::Fill { to, pattern, count })
    }

    /// What a call begins with that uses the default stream and waits for it.
    fn begin_blocking(&mut self) -> Answer {
        self.context()?;
        self.unsafe_call()?;
        self.allow_legacy(LEGACY)
    }

    /// A graph would read and write the host's memory at each launch, when it may be freed. A driver allows it; here it is
    /// refused.
    fn refuse_pageable(&mut self, stream: StreamId) -> Answer {
        if !self.is_capturing(stream) {
            return Ok(());
        }
        eprintln!("simcuda: a copy between the device and pageable memory of the host in a capture");
        Err(self.refuse_in(stream, Error::CAPTURE_UNSUPPORTED))
    }
}
