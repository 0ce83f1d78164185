//! PTX: a module is read from text, and its kernels run on the host.

use std::sync::Arc;

use crate::fault::Fault;
use crate::launch::{Grid, LaunchCounts, Options};
use crate::memory::Memory;

/// A module: kernels, and variables in global memory.
#[derive(Debug)]
pub struct Module {}

/// Why a module could not be read: the line, and what was not understood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(pub String);

impl Module {
    /// Reads a module and places its variables in `memory`.
    ///
    /// # Errors
    /// If the text is not PTX. A form of an instruction that is not there is no error: it faults when it runs.
    pub fn load(_text: &str, _memory: &mut Memory) -> Result<Self, LoadError> {
        Err(LoadError("no PTX is read yet".into()))
    }

    /// The kernel (`.entry`) of this name.
    #[must_use]
    pub fn kernel(&self, _name: &str) -> Option<Arc<Kernel>> {
        None
    }

    /// The address and the length of a variable in global or constant memory.
    #[must_use]
    pub fn variable(&self, _name: &str) -> Option<(u64, u64)> {
        None
    }
}

/// A kernel of a module.
#[derive(Debug)]
pub struct Kernel {
    /// Its name in the module.
    pub name: String,
    /// Its parameters, in order.
    pub parameters: Vec<Parameter>,
    /// Bytes of shared memory that it declares.
    pub static_shared: u32,
    /// The most threads of a block: `.maxntid`, otherwise 1024.
    pub max_threads: u32,
}

/// A parameter: a part of the bytes that a launch passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Where it starts.
    pub offset: usize,
    /// How many bytes it has.
    pub len: usize,
}

impl Kernel {
    /// Runs the kernel to its end.
    ///
    /// # Errors
    /// The first fault. What was written before stays.
    pub fn run(
        &self,
        _grid: Grid,
        _parameters: &[u8],
        _memory: &mut Memory,
        _options: &Options,
    ) -> Result<LaunchCounts, Fault> {
        Ok(LaunchCounts::default())
    }
}
