//! The driver's rules, on a device of each test's own, with a kernel that is not read from PTX.

mod captures;
mod context;
mod graphs;
mod launches;
mod memory;
mod streams;

use std::sync::Arc;

use super::device::{CONTEXT, Device};
use super::error::Error;
use super::settings::Settings;
use super::work::{Entry, Pattern};
use crate::fault::{Fault, FaultKind};
use crate::launch::{Grid, LaunchCounts, Options, Order};
use crate::memory::Memory;
use crate::ptx::Parameter;

/// `*address = *address * 10 + digit`, so that a number tells in which order launches ran. Digit 99 is a fault.
#[derive(Debug)]
struct Digit;

impl Entry for Digit {
    fn name(&self) -> &'static str {
        "digit"
    }

    fn parameters(&self) -> &[Parameter] {
        &[Parameter { offset: 0, len: 8 }, Parameter { offset: 8, len: 4 }]
    }

    fn static_shared(&self) -> u32 {
        1024
    }

    fn max_threads(&self) -> u32 {
        256
    }

    fn required_threads(&self) -> Option<[u32; 3]> {
        None
    }

    fn run(
        &self,
        _: Grid,
        parameters: &[u8],
        memory: &mut Memory,
        _: &Options,
    ) -> Result<LaunchCounts, Fault> {
        let address = u64::from_le_bytes(parameters[..8].try_into().expect("8 bytes"));
        let digit = u32::from_le_bytes(parameters[8..12].try_into().expect("4 bytes"));
        if digit == 99 {
            return Err(Fault::new(FaultKind::Assert, "99"));
        }
        let bytes = memory.get_mut(address, 4)?;
        let value = u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
        bytes.copy_from_slice(&(value.wrapping_mul(10) + digit).to_le_bytes());
        Ok(LaunchCounts { bytes_read: 4, bytes_written: 4, ..LaunchCounts::default() })
    }
}

const ONE: Grid = Grid { blocks: [1; 3], threads: [1; 3], dynamic_shared: 0 };

/// A device that thread 1 uses, and the kernel's handle.
struct Fixture {
    device: Device,
    digit: u64,
}

impl Fixture {
    fn with(settings: Settings) -> Self {
        let mut device = Device::new(settings);
        device.enter(1);
        device.initialize(0).expect("flags are 0");
        assert_eq!(device.retain(0), Ok(CONTEXT));
        device.set_current(CONTEXT).expect("it is there");
        let digit = device.add_function(Arc::new(Digit));
        Self { device, digit }
    }

    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn in_order(streams: Order) -> Self {
        Self::with(Settings { streams, ..Settings::default() })
    }

    /// A stream that the legacy default stream does not order.
    fn stream(&mut self) -> u64 {
        self.device.create_stream(1).expect("a stream")
    }

    /// A number of 32 bits that is 0, with nothing pending.
    fn number(&mut self) -> u64 {
        let address = self.device.allocate(4).expect("room");
        self.device.fill(address, Pattern::Byte(0), 4, 0).expect("inside");
        self.device.synchronize().expect("no capture");
        address
    }

    fn push(&mut self, address: u64, digit: u32, stream: u64) -> Result<(), Error> {
        let mut parameters = address.to_le_bytes().to_vec();
        parameters.extend(digit.to_le_bytes());
        self.device.launch(self.digit, ONE, &parameters, stream)
    }

    /// What the number is after a stream's work.
    fn read(&mut self, address: u64, stream: u64) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.device.read_back_async(&mut bytes, address, stream)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Pinned memory of 4 bytes, as a program sees it.
    fn pinned(&mut self) -> &'static mut [u8] {
        let address = self.device.allocate_pinned(4).expect("room");
        // SAFETY: the 4 bytes are allocated, and stay so as long as the fixture; no test uses them afterwards.
        unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(address), 4) }
    }
}
