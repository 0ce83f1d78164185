//! What a captured graph tells of its nodes.

use std::sync::Arc;

use super::device::{Answer, Device};
use super::error::Error;
use super::graph::Node;
use super::work::{Entry, Work};
use crate::blas::Gemm;
use crate::fault::{Fault, FaultKind};
use crate::launch::{Grid, LaunchCounts, Options};
use crate::memory::Memory;
use crate::ptx::Parameter;

/// What a node does.
#[derive(Clone, Debug)]
pub enum Told {
    /// A kernel, by the handle of its function.
    Kernel {
        /// The handle.
        function: u64,
        /// Its grid.
        grid: Grid,
        /// Its parameters, whose addresses stay as long as the graph.
        parameters: Arc<Parameters>,
    },
    /// A copy: to and from, and how much. An address of the host is `None`.
    Copy {
        /// Where.
        to: Option<u64>,
        /// From where.
        from: Option<u64>,
        /// How much.
        len: usize,
    },
    /// A fill.
    Fill {
        /// Where.
        to: u64,
        /// What.
        value: u32,
        /// Bytes of what.
        size: usize,
        /// How often.
        count: usize,
    },
    /// Memory of the graph.
    Allocate {
        /// The address.
        address: u64,
        /// How much.
        len: u64,
    },
    /// Its end.
    Free {
        /// The address.
        address: u64,
    },
    /// Nothing.
    Empty,
}

impl Told {
    /// `CUgraphNodeType`.
    #[must_use]
    pub fn number(&self) -> u32 {
        match self {
            Self::Kernel { .. } => 0,
            Self::Copy { .. } => 1,
            Self::Fill { .. } => 2,
            Self::Empty => 5,
            Self::Allocate { .. } => 10,
            Self::Free { .. } => 11,
        }
    }
}

/// The bytes of parameters, and the address of each.
#[derive(Debug)]
pub struct Parameters {
    addresses: Box<[usize]>,
    _bytes: Box<[u8]>,
}

impl Parameters {
    fn new(layout: &[Parameter], bytes: &[u8]) -> Self {
        let bytes: Box<[u8]> = bytes.into();
        let start = bytes.as_ptr().addr();
        let addresses = layout.iter().map(|parameter| start + parameter.offset).collect();
        Self { addresses, _bytes: bytes }
    }

    /// The address of the first address.
    #[must_use]
    pub fn address(&self) -> usize {
        self.addresses.as_ptr().addr()
    }
}

/// A product of matrices as a kernel, all of whose numbers are its parameters. It is there to be told, not to be launched.
#[derive(Debug)]
struct Product {
    parameters: Vec<Parameter>,
}

const WORDS: usize = 20;

impl Product {
    fn new() -> Self {
        Self { parameters: (0..WORDS).map(|word| Parameter { offset: 8 * word, len: 8 }).collect() }
    }

    fn words(gemm: &Gemm) -> [u64; WORDS] {
        let Gemm { m, n, k, batch, a, b, c, scale } = gemm;
        let mut words = [0; WORDS];
        let sizes = [m, n, k, batch].map(|size| size.cast_unsigned());
        let (kind, alpha, beta) = scale.words();
        words[..4].copy_from_slice(&sizes);
        for (words, matrix) in words[4..].chunks_exact_mut(4).zip([a, b, c]) {
            let form = matrix.of as u64 | u64::from(matrix.transposed) << 8;
            words.copy_from_slice(&[
                matrix.address,
                form,
                matrix.leading.cast_unsigned(),
                matrix.stride.cast_unsigned(),
            ]);
        }
        words[16..19].copy_from_slice(&[kind, alpha, beta]);
        words
    }
}

impl Entry for Product {
    fn name(&self) -> &str {
        "gemm"
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn static_shared(&self) -> u32 {
        0
    }

    fn max_threads(&self) -> u32 {
        1024
    }

    fn required_threads(&self) -> Option<[u32; 3]> {
        None
    }

    fn run(&self, _: Grid, _: &[u8], _: &mut Memory, _: &Options) -> Result<LaunchCounts, Fault> {
        Err(Fault::new(FaultKind::IllegalAddress, "a launch of cuBLAS's own kernel"))
    }
}

impl Device {
    /// `cuGraphGetNodes`: a handle for each node, the same in each call.
    pub fn graph_nodes(&mut self, graph: u64) -> Answer<Vec<u64>> {
        self.context()?;
        let found = self.graphs.get(&graph).ok_or(Error::INVALID_VALUE)?;
        if !found.handles.is_empty() || found.nodes.is_empty() {
            return Ok(found.handles.clone());
        }
        let nodes = Arc::clone(&found.nodes);
        let mut handles = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            let told = self.told(node);
            let handle = self.new_handle();
            self.nodes.insert(handle, told);
            handles.push(handle);
        }
        if let Some(found) = self.graphs.get_mut(&graph) {
            found.handles.clone_from(&handles);
        }
        Ok(handles)
    }

    fn told(&mut self, node: &Node) -> Told {
        let one = Grid { blocks: [1; 3], threads: [1; 3], dynamic_shared: 0 };
        match &node.work {
            Work::Launch { kernel, grid, parameters } => {
                let parameters = Arc::new(Parameters::new(kernel.parameters(), parameters));
                Told::Kernel { function: self.function_of(kernel), grid: *grid, parameters }
            }
            Work::Gemm(gemm) => {
                let kernel: Arc<dyn Entry> = Arc::new(Product::new());
                let bytes = Product::words(gemm).map(u64::to_le_bytes).concat();
                let parameters = Arc::new(Parameters::new(kernel.parameters(), &bytes));
                Told::Kernel { function: self.add_function(kernel), grid: one, parameters }
            }
            Work::Copy { to, from, len } => Told::Copy { to: Some(*to), from: Some(*from), len: *len },
            Work::Write { to, bytes } | Work::Random { to, bytes } => {
                Told::Copy { to: Some(*to), from: None, len: bytes.len() }
            }
            Work::WritePinned { to, len, .. } => Told::Copy { to: Some(*to), from: None, len: *len },
            Work::ReadPinned { from, len, .. } => Told::Copy { to: None, from: Some(*from), len: *len },
            Work::Fill { to, pattern, count } => {
                Told::Fill { to: *to, value: pattern.value(), size: pattern.size(), count: *count }
            }
            Work::Allocate { address, len } => Told::Allocate { address: *address, len: *len },
            Work::Free { address } => Told::Free { address: *address },
            Work::Marker | Work::Wait(_) | Work::Graph(_) => Told::Empty,
        }
    }

    /// What a node does.
    pub fn node(&mut self, handle: u64) -> Answer<Told> {
        self.context()?;
        self.nodes.get(&handle).cloned().ok_or(Error::INVALID_VALUE)
    }
}
