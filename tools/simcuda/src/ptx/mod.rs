//! PTX: a module is read from text, and its kernels run on the host.

#![forbid(unsafe_code)]

mod body;
mod decode;
mod float;
mod lexer;
mod link;
mod parser;
mod program;
mod registers;
mod run;
pub(crate) mod soft;
mod space;
mod syntax;
#[cfg(test)]
mod tests;
mod types;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use self::link::{Layout, Linked};
use self::program::{Op, Program};
use self::run::Launch;
use crate::fault::Fault;
use crate::launch::{Grid, LaunchCounts, Options};
use crate::memory::Memory;

/// A module: kernels, and variables in global memory.
#[derive(Debug)]
pub struct Module {
    linked: Arc<Linked>,
    kernels: HashMap<String, Arc<Kernel>>,
}

/// Why a module could not be read: the line, and what was not understood there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(pub String);

impl Module {
    /// Reads a module and places its variables in `memory`.
    ///
    /// # Errors
    /// If the text is not PTX. A form of an instruction that is not there is no error: it faults when it runs.
    pub fn load(text: &str, memory: &mut Memory) -> Result<Self, LoadError> {
        let linked = Arc::new(Linked::new(parser::parse(text)?, memory)?);
        let kernels = linked
            .syntax
            .functions
            .iter()
            .enumerate()
            .filter(|(_, function)| function.is_kernel && function.body.is_some())
            .map(|(number, function)| {
                (function.name.clone(), Arc::new(Kernel::new(Arc::clone(&linked), number)))
            })
            .collect();
        Ok(Self { linked, kernels })
    }

    /// The kernel (`.entry`) of this name.
    #[must_use]
    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.kernels.get(name).cloned()
    }

    /// All kernels, by no order.
    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.kernels.values()
    }

    /// The address and the length of a variable in global or constant memory.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<(u64, u64)> {
        self.linked.variables.get(name).copied()
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
    /// The most threads of a block: those of `.maxntid` or `.reqntid`, otherwise 1024.
    pub max_threads: u32,
    /// The threads of a block along x, y and z, if it runs with no others: `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    linked: Arc<Linked>,
    layout: Layout,
    /// Decoded when it first runs: a program uses few kernels of its modules.
    program: OnceLock<Program>,
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
    fn new(linked: Arc<Linked>, number: usize) -> Self {
        let function = &linked.syntax.functions[number];
        let layout = Layout::new(&linked, number);
        let parameters = link::parameters(function)
            .into_iter()
            .map(|(variable, offset)| Parameter { offset, len: variable.len.unwrap_or(0) })
            .collect();
        Self {
            name: function.name.clone(),
            parameters,
            static_shared: layout.static_shared,
            max_threads: function.max_threads.unwrap_or(1024),
            required_threads: function.required_threads,
            layout,
            program: OnceLock::new(),
            linked,
        }
    }

    fn program(&self) -> &Program {
        self.program.get_or_init(|| decode::program(&self.linked, &self.layout))
    }

    /// The instructions of the kernel that this device does not have.
    #[must_use]
    pub fn unknown(&self) -> Vec<&str> {
        let steps = &self.program().steps;
        steps.iter().filter(|step| matches!(step.op, Op::Unknown)).map(|step| step.text.as_str()).collect()
    }

    /// Runs the kernel to its end.
    ///
    /// # Errors
    /// The first fault. What was written before stays.
    pub fn run(
        &self,
        grid: Grid,
        parameters: &[u8],
        memory: &mut Memory,
        options: &Options,
    ) -> Result<LaunchCounts, Fault> {
        let launch = Launch {
            kernel: &self.name,
            program: self.program(),
            grid,
            parameters,
            static_shared: self.static_shared,
            options,
        };
        launch.run(memory)
    }
}
