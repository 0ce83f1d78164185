//! What a captured graph tells of its nodes.

use std::sync::{Arc, LazyLock};

use super::device::{Answer, Device};
use super::error::Error;
use super::graph::Node;
use super::work::{Entry, Work};
use crate::blas::{Gemm, Matrix};
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
    /// A copy.
    Copy {
        /// Where.
        to: Address,
        /// From where.
        from: Address,
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

/// An address at an end of a copy.
#[derive(Clone, Copy, Debug)]
pub enum Address {
    /// In pinned memory of the host.
    Host(usize),
    /// In memory of the device.
    Device(u64),
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

/// The bytes of parameters, in words so that each is aligned, and the address of each.
#[derive(Debug)]
pub struct Parameters {
    addresses: Box<[usize]>,
    _words: Box<[u64]>,
}

impl Parameters {
    fn new(layout: &[Parameter], bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_ne_bytes(word)
        };
        let words: Box<[u64]> = bytes.chunks(8).map(word).collect();
        let start = words.as_ptr().expose_provenance();
        let addresses = layout.iter().map(|parameter| start + parameter.offset).collect();
        Self { addresses, _words: words }
    }

    /// The address of the first address.
    #[must_use]
    pub fn address(&self) -> usize {
        self.addresses.as_ptr().expose_provenance()
    }
}

/// A product of matrices as a kernel, all of whose numbers are its parameters. It is there to be told, not to be launched.
#[derive(Debug)]
struct Product {
    parameters: Vec<Parameter>,
}

/// The one kernel of all products.
static PRODUCT: LazyLock<Arc<dyn Entry>> = LazyLock::new(|| {
    let parameters = (0..WORDS).map(|word| Parameter { offset: 8 * word, len: 8 }).collect();
    Arc::new(Product { parameters })
});

/// Four sizes, five numbers of each of three matrices, and three of the scale.
const WORDS: usize = 4 + 3 * 5 + 3;

fn words(gemm: &Gemm) -> Vec<u64> {
    let Gemm { m, n, k, batch, a, b, c, scale } = gemm;
    let mut words = [m, n, k, batch].map(|size| size.cast_unsigned()).to_vec();
    for Matrix { address, of, leading, stride, transposed } in [a, b, c] {
        words.extend([*address, *of as u64, leading.cast_unsigned(), stride.cast_unsigned()]);
        words.push(u64::from(*transposed));
    }
    let (kind, alpha, beta) = scale.words();
    words.extend([kind, alpha, beta]);
    words
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
        let told: Vec<Told> = nodes.iter().map(|node| self.told(node)).collect::<Answer<_>>()?;
        let mut handles = Vec::with_capacity(nodes.len());
        for told in told {
            let handle = self.new_handle();
            self.nodes.insert(handle, told);
            handles.push(handle);
        }
        if let Some(found) = self.graphs.get_mut(&graph) {
            found.handles.clone_from(&handles);
        }
        Ok(handles)
    }

    fn told(&mut self, node: &Node) -> Answer<Told> {
        let one = Grid { blocks: [1; 3], threads: [1; 3], dynamic_shared: 0 };
        Ok(match &node.work {
            Work::Launch { function, kernel, grid, parameters } => {
                let parameters = Arc::new(Parameters::new(kernel.parameters(), parameters));
                Told::Kernel { function: *function, grid: *grid, parameters }
            }
            Work::Gemm(gemm) => {
                let bytes: Vec<u8> = words(gemm).into_iter().flat_map(u64::to_le_bytes).collect();
                let parameters = Arc::new(Parameters::new(PRODUCT.parameters(), &bytes));
                Told::Kernel { function: self.function_of(&PRODUCT), grid: one, parameters }
            }
            Work::Copy { to, from, len } => {
                Told::Copy { to: Address::Device(*to), from: Address::Device(*from), len: *len }
            }
            Work::WritePinned { to, from, len } => {
                Told::Copy { to: Address::Device(*to), from: Address::Host(*from), len: *len }
            }
            Work::ReadPinned { to, from, len } => {
                Told::Copy { to: Address::Host(*to), from: Address::Device(*from), len: *len }
            }
            Work::Fill { to, pattern, count } => {
                Told::Fill { to: *to, value: pattern.value(), size: pattern.size(), count: *count }
            }
            Work::Allocate { address, len } => Told::Allocate { address: *address, len: *len },
            Work::Free { address } => Told::Free { address: *address },
            Work::Marker | Work::Wait(_) => Told::Empty,
            // Captures refuse these.
            Work::Write { .. } | Work::Random { .. } | Work::Graph(_) => return Err(Error::UNKNOWN),
        })
    }

    /// What a node does.
    pub fn node(&mut self, handle: u64) -> Answer<Told> {
        self.context()?;
        self.nodes.get(&handle).cloned().ok_or(Error::INVALID_VALUE)
    }
}
