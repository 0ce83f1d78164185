//! What a launch is given, and what it counts.

use std::ops::AddAssign;

/// The grid of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Blocks along x, y and z.
    pub blocks: [u32; 3],
    /// Threads of a block along x, y and z.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
}

/// The order in which the blocks of a grid, and the warps of a block, run: a right kernel gives the same in any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// From the first to the last.
    #[default]
    Forward,
    /// From the last to the first.
    Reversed,
    /// Shuffled by this seed.
    Seeded(u64),
}

/// How a launch is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// See [`Order`].
    pub order: Order,
    /// Whether races between threads of a block are faults.
    pub races: bool,
    /// Whether reads of uninitialized shared memory are faults.
    pub uninitialized_shared: bool,
    /// The most instructions of one warp.
    pub instructions: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { order: Order::Forward, races: true, uninitialized_shared: true, instructions: 1 << 32 }
    }
}

/// What a launch did, exactly. Programs read it through C.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchCounts {
    /// Instructions, one for each warp that runs it.
    pub warp_instructions: u64,
    /// Instructions, one for each lane that runs it.
    pub thread_instructions: u64,
    /// Bytes that were read from global memory.
    pub bytes_read: u64,
    /// Bytes that were written to global memory.
    pub bytes_written: u64,
    /// Sectors of 32 bytes that the loads of a warp touch, summed over its instructions.
    pub sectors_read: u64,
    /// As `sectors_read`, of stores.
    pub sectors_written: u64,
    /// Atomic operations on global memory, one for each lane.
    pub atomics: u64,
    /// Turns that accesses to shared memory took beyond the first, because lanes met in one of its 32 banks.
    pub bank_conflicts: u64,
    /// Barriers that a block passed.
    pub barriers: u64,
}

impl LaunchCounts {
    /// The counts, each with its name in reports.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("warp instructions", self.warp_instructions),
            ("thread instructions", self.thread_instructions),
            ("bytes read", self.bytes_read),
            ("bytes written", self.bytes_written),
            ("sectors read", self.sectors_read),
            ("sectors written", self.sectors_written),
            ("atomics", self.atomics),
            ("bank conflicts", self.bank_conflicts),
            ("barriers", self.barriers),
        ]
    }
}

impl AddAssign for LaunchCounts {
    fn add_assign(&mut self, other: Self) {
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.sectors_read += other.sectors_read;
        self.sectors_written += other.sectors_written;
        self.atomics += other.atomics;
        self.bank_conflicts += other.bank_conflicts;
        self.barriers += other.barriers;
    }
}
