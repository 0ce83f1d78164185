//! The device's state: all that the driver's calls read and change. Handles are numbers in its tables, so that one that
//! is stale is an error.

use std::collections::{BTreeMap, HashMap};

use super::capture::{Capture, CaptureMode, Capturing};
use super::error::Error;
use super::event::Event;
use super::graph::{Executable, Graph};
use super::heap::Allocation;
use super::module::{Function, LoadedModule};
use super::node::Told;
use super::pinned::Pinned;
use super::settings::Settings;
use super::stream::{LEGACY, StreamId, Streams};
use super::work::{Machine, Work};
use crate::blas::BlasHandle;
use crate::counts::Report;
use crate::fault::Fault;
use crate::memory::Memory;
use crate::rand::Generator;

/// The handle of the only context, the primary one.
pub const CONTEXT: u64 = 0x100;

/// Work that waits before the device goes on by itself, as a device's queue is finite.
const QUEUE: usize = 1 << 14;

/// A result of a call.
pub type Answer<T = ()> = Result<T, Error>;

/// What belongs to a thread of the program.
#[derive(Debug, Default)]
pub(super) struct Thread {
    /// Whether the context is current.
    pub(super) current: bool,
    /// Its default stream, once it is used.
    stream: Option<StreamId>,
    /// What it may do beside captures.
    pub(super) mode: CaptureMode,
}

/// The device.
#[derive(Debug)]
pub struct Device {
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    pub(super) streams: Streams,
    pub(super) events: HashMap<u64, Event>,
    pub(super) modules: HashMap<u64, LoadedModule>,
    pub(super) functions: HashMap<u64, Function>,
    /// Memory that the program may free.
    pub(super) allocations: HashMap<u64, Allocation>,
    /// All addresses that graphs own, with lengths, allocated at the moment or not.
    pub(super) graph_memory: BTreeMap<u64, u64>,
    pub(super) captures: BTreeMap<u64, Capture>,
    pub(super) capturing: BTreeMap<StreamId, Capturing>,
    pub(super) graphs: HashMap<u64, Graph>,
    pub(super) executables: HashMap<u64, Executable>,
    /// Nodes of graphs that were asked for.
    pub(super) nodes: HashMap<u64, Told>,
    pub(super) pool_threshold: u64,
    pub(crate) blas: HashMap<u64, BlasHandle>,
    pub(crate) generators: HashMap<u64, Generator>,
    threads: HashMap<u64, Thread>,
    caller: u64,
    handles: u64,
    initialized: bool,
    retained: u32,
    lost: Option<Fault>,
}

impl Device {
    /// An unused device.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let memory = if settings.uninitialized_global { Memory::new } else { Memory::untracked };
        let machine = Machine {
            memory: memory(settings.memory),
            pinned: Pinned::default(),
            options: settings.options,
            report: Report::default(),
        };
        Self {
            machine,
            streams: Streams::new(settings.streams),
            settings,
            events: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            allocations: HashMap::new(),
            graph_memory: BTreeMap::new(),
            captures: BTreeMap::new(),
            capturing: BTreeMap::new(),
            graphs: HashMap::new(),
            executables: HashMap::new(),
            nodes: HashMap::new(),
            pool_threshold: 0,
            blas: HashMap::new(),
            generators: HashMap::new(),
            threads: HashMap::new(),
            caller: 0,
            handles: CONTEXT,
            initialized: false,
            retained: 0,
            lost: None,
        }
    }

    /// How it behaves.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was counted.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.machine.report
    }

    /// The fault that ended the context.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.lost.as_ref()
    }

    /// Counts from 0 again.
    pub fn reset_counts(&mut self) {
        self.machine.report = Report::default();
    }

    /// The calls that follow come from this thread.
    pub fn enter(&mut self, thread: u64) {
        self.caller = thread;
        self.threads.entry(thread).or_default();
    }

    pub(super) fn caller(&self) -> u64 {
        self.caller
    }

    pub(super) fn thread(&mut self) -> &mut Thread {
        self.threads.entry(self.caller).or_default()
    }

    /// A number that no handle has had.
    pub(crate) fn new_handle(&mut self) -> u64 {
        self.handles += 0x10;
        self.handles
    }

    /// `cuInit`.
    pub fn initialize(&mut self, flags: u32) -> Answer {
        if flags != 0 {
            return Err(Error::INVALID_VALUE);
        }
        self.initialized = true;
        Ok(())
    }

    /// Whether the driver was initialized.
    ///
    /// # Errors
    /// If it was not.
    pub fn initialized(&self) -> Answer {
        if self.initialized { Ok(()) } else { Err(Error::NOT_INITIALIZED) }
    }

    /// The device of this ordinal: there is one.
    pub fn device(&self, ordinal: i32) -> Answer {
        self.initialized()?;
        if ordinal == 0 { Ok(()) } else { Err(Error::INVALID_DEVICE) }
    }

    /// `cuDevicePrimaryCtxRetain`.
    pub fn retain(&mut self, device: i32) -> Answer<u64> {
        self.device(device)?;
        self.retained += 1;
        Ok(CONTEXT)
    }

    /// `cuDevicePrimaryCtxRelease`: the last release ends all that the context held, but for a fault, behind which the
    /// manual wants a new process.
    pub fn release(&mut self, device: i32) -> Answer {
        self.device(device)?;
        self.retained = self.retained.checked_sub(1).ok_or(Error::INVALID_CONTEXT)?;
        if self.retained == 0 {
            let mut fresh = Self::new(self.settings.clone());
            fresh.machine.report = std::mem::take(&mut self.machine.report);
            fresh.threads = std::mem::take(&mut self.threads);
            for thread in fresh.threads.values_mut() {
                thread.stream = None;
            }
            fresh.caller = self.caller;
            // Handles and addresses of the old context must not become right again.
            fresh.handles = self.handles;
            fresh.machine.memory = std::mem::replace(&mut self.machine.memory, Memory::new(0));
            fresh.machine.memory.free_all();
            fresh.initialized = true;
            fresh.lost = self.lost.take();
            *self = fresh;
        }
        Ok(())
    }

    /// `cuCtxSetCurrent`: 0 is none.
    pub fn set_current(&mut self, context: u64) -> Answer {
        self.initialized()?;
        if context != 0 && (context != CONTEXT || self.retained == 0) {
            return Err(Error::INVALID_CONTEXT);
        }
        self.thread().current = context != 0;
        Ok(())
    }

    /// `cuCtxGetCurrent`: 0 is none.
    pub fn current(&mut self) -> Answer<u64> {
        self.initialized()?;
        Ok(if self.thread().current { CONTEXT } else { 0 })
    }

    /// What each call that needs the context begins with.
    ///
    /// # Errors
    /// If there is none, or a fault ended it: then each call answers with the fault's code.
    pub fn context(&mut self) -> Answer {
        self.initialized()?;
        if !self.thread().current {
            return Err(Error::INVALID_CONTEXT);
        }
        if self.retained == 0 {
            return Err(Error::CONTEXT_IS_DESTROYED);
        }
        self.lost.as_ref().map_or(Ok(()), |fault| Err(Error::of_fault(fault)))
    }

    /// The stream of a handle. 0 and 1 are the legacy default stream, 2 is the thread's own default stream, which is a
    /// blocking one.
    pub(crate) fn stream(&mut self, handle: u64) -> Answer<StreamId> {
        self.context()?;
        match handle {
            0 | 1 => Ok(LEGACY),
            2 => {
                if let Some(stream) = self.thread().stream {
                    return Ok(stream);
                }
                let stream = self.new_handle();
                self.streams.add(stream, true);
                self.thread().stream = Some(stream);
                Ok(stream)
            }
            _ if self.streams.contains(handle) => Ok(handle),
            _ => Err(Error::INVALID_HANDLE),
        }
    }

    /// Gives work to a stream, or to the graph that the stream captures.
    pub(crate) fn submit(&mut self, stream: StreamId, work: Work) -> Answer {
        if self.is_capturing(stream) {
            return self.capture(stream, work).map(|_| ());
        }
        self.allow_legacy(stream)?;
        work.count(&mut self.machine.report.counts);
        self.streams.push(stream, work);
        while self.streams.waiting() > QUEUE {
            self.step()?;
        }
        Ok(())
    }

    /// Does one piece of work; false if there is none.
    pub(super) fn step(&mut self) -> Answer<bool> {
        let Some(work) = self.streams.take() else { return Ok(false) };
        self.machine.run(&work).map_err(|fault| self.lose(fault))?;
        Ok(true)
    }

    /// Does all work.
    pub(super) fn finish(&mut self) -> Answer {
        while self.step()? {}
        Ok(())
    }

    /// Does work until a stream has none.
    pub(super) fn finish_stream(&mut self, stream: StreamId) -> Answer {
        if stream == LEGACY {
            // It waits for blocking streams as work of its own would.
            self.streams.push(LEGACY, Work::Marker);
        }
        while self.streams.is_busy(stream) {
            self.step()?;
        }
        Ok(())
    }

    /// Ends the context by a fault, and says so.
    pub(super) fn lose(&mut self, fault: Fault) -> Error {
        eprintln!("simcuda: {fault}");
        let error = Error::of_fault(&fault);
        self.lost = Some(fault);
        self.streams.clear();
        error
    }

    /// `cuCtxSynchronize`.
    pub fn synchronize(&mut self) -> Answer {
        self.context()?;
        self.refuse_all_captures()?;
        self.machine.report.counts.synchronizations += 1;
        self.finish()
    }

    /// `cuStreamCreate`: bit 0 of the flags is a stream that the legacy default stream does not order.
    pub fn create_stream(&mut self, flags: u32) -> Answer<u64> {
        self.context()?;
        if flags > 1 {
            return Err(Error::INVALID_VALUE);
        }
        let id = self.new_handle();
        self.streams.add(id, flags == 0);
        Ok(id)
    }

    /// `cuStreamDestroy`: answers at once; the work is still done.
    pub fn destroy_stream(&mut self, handle: u64) -> Answer {
        let id = self.stream(handle)?;
        if handle <= 2 {
            return Err(Error::INVALID_HANDLE);
        }
        self.refuse_capture(id)?;
        self.streams.destroy(id);
        Ok(())
    }

    /// `cuStreamSynchronize`.
    pub fn synchronize_stream(&mut self, handle: u64) -> Answer {
        let id = self.stream(handle)?;
        self.refuse_capture(id)?;
        self.unsafe_call()?;
        self.allow_legacy(id)?;
        self.machine.report.counts.synchronizations += 1;
        self.finish_stream(id)
    }

    /// `cuStreamQuery`: time passes with each question, so that asking again and again ends.
    pub fn query_stream(&mut self, handle: u64) -> Answer {
        let id = self.stream(handle)?;
        self.refuse_capture(id)?;
        self.unsafe_call()?;
        self.allow_legacy(id)?;
        if !self.streams.is_busy(id) {
            return Ok(());
        }
        self.step()?;
        Err(Error::NOT_READY)
    }
}
