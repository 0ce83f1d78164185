//! What a stream holds: the work that waits there, and how it is done.

use std::fmt::Debug;
use std::sync::Arc;

use super::pinned::Pinned;
use super::stream::Position;
use crate::blas::Gemm;
use crate::counts::{Counts, Report};
use crate::fault::{Fault, FaultKind};
use crate::launch::{Grid, LaunchCounts, Options};
use crate::memory::Memory;
use crate::ptx::{Kernel, Parameter};

/// What a launch needs of a kernel.
pub trait Entry: Debug + Send + Sync {
    /// Its name.
    fn name(&self) -> &str;
    /// Its parameters, in order.
    fn parameters(&self) -> &[Parameter];
    /// Bytes of shared memory that it declares.
    fn static_shared(&self) -> u32;
    /// The most threads of a block.
    fn max_threads(&self) -> u32;
    /// The threads of a block along each axis, if it runs with no others.
    fn required_threads(&self) -> Option<[u32; 3]>;
    /// Runs it.
    ///
    /// # Errors
    /// The first fault.
    fn run(
        &self,
        grid: Grid,
        parameters: &[u8],
        memory: &mut Memory,
        options: &Options,
    ) -> Result<LaunchCounts, Fault>;
}

impl Entry for Kernel {
    fn name(&self) -> &str {
        &self.name
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn static_shared(&self) -> u32 {
        self.static_shared
    }

    fn max_threads(&self) -> u32 {
        self.max_threads
    }

    fn required_threads(&self) -> Option<[u32; 3]> {
        self.required_threads
    }

    fn run(
        &self,
        grid: Grid,
        parameters: &[u8],
        memory: &mut Memory,
        options: &Options,
    ) -> Result<LaunchCounts, Fault> {
        Self::run(self, grid, parameters, memory, options)
    }
}

/// One piece of work. A graph holds the same.
#[derive(Clone, Debug)]
pub enum Work {
    /// Nothing: a place that an event stands for.
    Marker,
    /// Nothing, but only after another place.
    Wait(Position),
    /// A kernel, with its parameters as they were when it was launched.
    Launch {
        /// The handle that it was launched by.
        function: u64,
        /// The kernel.
        kernel: Arc<dyn Entry>,
        /// Its grid.
        grid: Grid,
        /// Its parameters.
        parameters: Arc<[u8]>,
    },
    /// Repeats a pattern over memory.
    Fill {
        /// Where.
        to: u64,
        /// What: 1, 2 or 4 bytes.
        pattern: Pattern,
        /// How often.
        count: usize,
    },
    /// Writes bytes that were staged when the copy was asked for.
    Write {
        /// Where.
        to: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// Writes random numbers: they depend on nothing but the generator, so they are made when they are asked for.
    Random {
        /// Where.
        to: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// Writes what pinned memory holds then.
    WritePinned {
        /// Where.
        to: u64,
        /// The address in pinned memory.
        from: usize,
        /// How much.
        len: usize,
    },
    /// Reads into pinned memory.
    ReadPinned {
        /// The address in pinned memory.
        to: usize,
        /// From where.
        from: u64,
        /// How much.
        len: usize,
    },
    /// Copies within the device.
    Copy {
        /// Where.
        to: u64,
        /// From where.
        from: u64,
        /// How much.
        len: usize,
    },
    /// Gives memory to an address that a graph owns.
    Allocate {
        /// The address.
        address: u64,
        /// How much.
        len: u64,
    },
    /// Frees memory.
    Free {
        /// The address.
        address: u64,
    },
    /// A product of matrices.
    Gemm(Gemm),
    /// The nodes of a graph, in an order that its edges allow.
    Graph(Arc<[Self]>),
}

impl Work {
    /// Counts work that is given to a stream.
    pub fn count(&self, counts: &mut Counts) {
        match self {
            Self::Launch { .. } => counts.launches += 1,
            Self::Fill { pattern, count, .. } => {
                counts.fills += 1;
                counts.fill_bytes += (count * pattern.size()) as u64;
            }
            Self::Write { bytes, .. } => {
                counts.uploads += 1;
                counts.upload_bytes += bytes.len() as u64;
            }
            Self::WritePinned { len, .. } => {
                counts.uploads += 1;
                counts.upload_bytes += *len as u64;
            }
            Self::ReadPinned { len, .. } => {
                counts.read_backs += 1;
                counts.read_back_bytes += *len as u64;
            }
            Self::Copy { len, .. } => {
                counts.device_copies += 1;
                counts.device_copy_bytes += *len as u64;
            }
            Self::Random { .. } => counts.random_fills += 1,
            Self::Gemm(_) => counts.products += 1,
            Self::Free { .. } => counts.frees += 1,
            Self::Graph(nodes) => {
                let mut inside = Counts::default();
                nodes.iter().for_each(|node| node.count(&mut inside));
                counts.graph_launches += 1;
                counts.graph_kernels += inside.launches;
                counts.products += inside.products;
                counts.uploads += inside.uploads;
                counts.upload_bytes += inside.upload_bytes;
                counts.read_backs += inside.read_backs;
                counts.read_back_bytes += inside.read_back_bytes;
                counts.device_copies += inside.device_copies;
                counts.device_copy_bytes += inside.device_copy_bytes;
                counts.fills += inside.fills;
                counts.fill_bytes += inside.fill_bytes;
            }
            Self::Marker | Self::Wait(_) | Self::Allocate { .. } => {}
        }
    }
}

/// What memory is filled with.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// A byte.
    Byte(u8),
    /// Two bytes.
    Short(u16),
    /// Four bytes.
    Word(u32),
}

impl Pattern {
    /// How many bytes it has.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Byte(_) => 1,
            Self::Short(_) => 2,
            Self::Word(_) => 4,
        }
    }

    /// It as a number.
    #[must_use]
    pub fn value(self) -> u32 {
        match self {
            Self::Byte(value) => value.into(),
            Self::Short(value) => value.into(),
            Self::Word(value) => value,
        }
    }

    fn fill(self, bytes: &mut [u8]) {
        match self {
            Self::Byte(value) => bytes.fill(value),
            Self::Short(value) => {
                bytes.chunks_exact_mut(2).for_each(|b| b.copy_from_slice(&value.to_le_bytes()))
            }
            Self::Word(value) => {
                bytes.chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&value.to_le_bytes()))
            }
        }
    }
}

/// What work is done on.
#[derive(Debug)]
pub struct Machine {
    /// Its memory.
    pub memory: Memory,
    /// Pinned memory of the host.
    pub pinned: Pinned,
    /// How kernels run.
    pub options: Options,
    /// What was counted.
    pub report: Report,
}

impl Machine {
    /// Does the work.
    ///
    /// # Errors
    /// The fault that ends the context.
    pub fn run(&mut self, work: &Work) -> Result<(), Fault> {
        match work {
            Work::Marker | Work::Wait(_) => Ok(()),
            Work::Launch { kernel, grid, parameters, .. } => {
                let counts = kernel.run(*grid, parameters, &mut self.memory, &self.options)?;
                self.report.add_kernel(kernel.name(), counts);
                Ok(())
            }
            Work::Fill { to, pattern, count } => {
                let bytes = self.memory.get_mut(*to, count * pattern.size()).map_err(at("a fill"))?;
                pattern.fill(bytes);
                Ok(())
            }
            Work::Write { to, bytes } => {
                self.memory
                    .get_mut(*to, bytes.len())
                    .map_err(at("a copy from the host"))?
                    .copy_from_slice(bytes);
                Ok(())
            }
            Work::Random { to, bytes } => {
                self.memory.get_mut(*to, bytes.len()).map_err(at("a fill of cuRAND"))?.copy_from_slice(bytes);
                Ok(())
            }
            Work::WritePinned { to, from, len } => {
                let bytes = self.memory.get_mut(*to, *len).map_err(at("a copy from pinned memory"))?;
                pinned(self.pinned.read(*from, bytes))
            }
            Work::ReadPinned { to, from, len } => {
                let bytes = self.memory.read(*from, *len).map_err(at("a copy to pinned memory"))?;
                pinned(self.pinned.write(*to, bytes))
            }
            Work::Copy { to, from, len } => {
                self.memory.copy(*to, *from, *len).map_err(at("a copy on the device"))
            }
            Work::Allocate { address, len } => {
                if self.memory.allocate_at(*address, *len) {
                    return Ok(());
                }
                let words = format!("a graph has no {len} bytes to allocate at {address:#x}");
                Err(Fault::new(FaultKind::IllegalAddress, words))
            }
            Work::Free { address } => {
                if self.memory.free(*address) {
                    return Ok(());
                }
                let words = format!("a free of {address:#x}, where nothing is allocated");
                Err(Fault::new(FaultKind::IllegalAddress, words))
            }
            Work::Gemm(gemm) => gemm.run(&mut self.memory).map_err(at("a product of cuBLAS")),
            Work::Graph(nodes) => nodes.iter().try_for_each(|node| self.run(node)),
        }
    }
}

/// Adds the place of a fault.
fn at(place: &'static str) -> impl Fn(Fault) -> Fault {
    move |mut fault| {
        fault.place = place.to_owned();
        fault
    }
}

fn pinned(live: bool) -> Result<(), Fault> {
    if live { Ok(()) } else { Err(Fault::new(FaultKind::IllegalAddress, "pinned memory that was freed")) }
}
