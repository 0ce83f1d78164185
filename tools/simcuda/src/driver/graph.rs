//! Graphs, and their launches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::device::{Answer, Device};
use super::error::Error;
use super::heap::Allocation;
use super::stream::Position;
use super::work::Work;
use crate::launch::Order;

/// A node: its work, and the nodes before it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) work: Work,
    pub(super) after: Vec<usize>,
}

/// A captured graph.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) nodes: Arc<[Node]>,
    /// Those of the nodes, once they are asked for.
    pub(super) handles: Vec<u64>,
    /// Length, and whether a node frees it, of memory that the graph owns.
    memory: BTreeMap<u64, (u64, bool)>,
    /// What was made of it, if it owns memory: there may be one.
    executable: Option<u64>,
}

/// A graph that can be launched.
#[derive(Debug)]
pub(super) struct Executable {
    nodes: Arc<[Node]>,
    memory: BTreeMap<u64, (u64, bool)>,
    graph: u64,
    free_on_launch: bool,
    /// Its last launch: the next one waits for it.
    last: Option<Position>,
}

const AUTO_FREE_ON_LAUNCH: u64 = 1;
const UPLOAD: u64 = 2;
const DEVICE_LAUNCH: u64 = 4;
const USE_NODE_PRIORITY: u64 = 8;

impl Device {
    pub(super) fn add_graph(&mut self, nodes: Vec<Node>, memory: BTreeMap<u64, (u64, bool)>) -> u64 {
        let handle = self.new_handle();
        self.graphs
            .insert(handle, Graph { nodes: nodes.into(), handles: Vec::new(), memory, executable: None });
        handle
    }

    /// `cuGraphInstantiate`.
    pub fn instantiate(&mut self, graph: u64, flags: u64) -> Answer<u64> {
        self.context()?;
        if flags & DEVICE_LAUNCH != 0 && flags & AUTO_FREE_ON_LAUNCH == 0 {
            eprintln!("simcuda: graphs that the device launches are not there");
            return Err(Error::NOT_SUPPORTED);
        }
        if flags & !(AUTO_FREE_ON_LAUNCH | UPLOAD | USE_NODE_PRIORITY) != 0 {
            return Err(Error::INVALID_VALUE);
        }
        let handle = self.new_handle();
        let source = self.graphs.get_mut(&graph).ok_or(Error::INVALID_VALUE)?;
        if !source.memory.is_empty() {
            if source.executable.is_some() {
                return Err(Error::INVALID_VALUE);
            }
            source.executable = Some(handle);
        }
        let executable = Executable {
            nodes: Arc::clone(&source.nodes),
            memory: source.memory.clone(),
            graph,
            free_on_launch: flags & AUTO_FREE_ON_LAUNCH != 0,
            last: None,
        };
        self.executables.insert(handle, executable);
        Ok(handle)
    }

    /// `cuGraphUpload`, which only prepares.
    pub fn upload_graph(&mut self, executable: u64, stream: u64) -> Answer {
        self.stream(stream)?;
        self.executables.get(&executable).map(|_| ()).ok_or(Error::INVALID_VALUE)
    }

    /// `cuGraphLaunch`: behind the stream's work, and behind the graph's launch before.
    pub fn launch_graph(&mut self, executable: u64, stream: u64) -> Answer {
        let stream = self.stream(stream)?;
        let found = self.executables.get(&executable).ok_or(Error::INVALID_VALUE)?;
        if self.is_capturing(stream) {
            eprintln!("simcuda: a graph in a graph is not there");
            return Err(self.refuse_in(stream, Error::NOT_SUPPORTED));
        }
        let (nodes, last) = (Arc::clone(&found.nodes), found.last);
        let kept: Vec<u64> = found.memory.iter().filter(|(_, (_, freed))| !freed).map(|(a, _)| *a).collect();
        let needed: u64 = found.memory.values().map(|(len, _)| len).sum();
        let open: Vec<u64> = kept.iter().copied().filter(|a| self.allocations.contains_key(a)).collect();
        if !open.is_empty() && !found.free_on_launch {
            eprintln!(
                "simcuda: a graph is launched again, and {} of its allocations are not freed",
                open.len()
            );
            return Err(Error::INVALID_VALUE);
        }
        if let Some(last) = last {
            self.submit(stream, Work::Wait(last))?;
        }
        for address in open {
            self.allocations.remove(&address);
            self.streams.push(stream, Work::Free { address });
        }
        self.make_room(needed)?;
        let work = self.ordered(&nodes);
        self.submit(stream, Work::Graph(work))?;
        self.allocations.extend(kept.into_iter().map(|address| (address, Allocation::Ordered)));
        let place = self.streams.push(stream, Work::Marker);
        if let Some(found) = self.executables.get_mut(&executable) {
            found.last = Some(place);
        }
        Ok(())
    }

    /// Makes sure that a graph finds its memory, by finishing what frees some if it must.
    fn make_room(&mut self, len: u64) -> Answer {
        let fits = |device: &Self| {
            let memory = &device.machine.memory;
            len <= memory.capacity() - memory.used()
        };
        if !fits(self) {
            self.finish()?;
        }
        if fits(self) { Ok(()) } else { Err(Error::OUT_OF_MEMORY) }
    }

    /// A graph's work in an order that its edges allow; the settings choose which.
    fn ordered(&mut self, nodes: &[Node]) -> Arc<[Work]> {
        let mut missing: Vec<usize> = nodes.iter().map(|node| node.after.len()).collect();
        let mut followers = vec![Vec::new(); nodes.len()];
        for (number, node) in nodes.iter().enumerate() {
            node.after.iter().for_each(|before| followers[*before].push(number));
        }
        let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|node| missing[*node] == 0).collect();
        let mut work = Vec::with_capacity(nodes.len());
        loop {
            let next = match self.settings.streams {
                Order::Forward => ready.first(),
                Order::Reversed => ready.last(),
                Order::Seeded(_) if ready.is_empty() => None,
                Order::Seeded(_) => ready.iter().nth(self.streams.random_below(ready.len())),
            };
            let Some(&next) = next else { break };
            ready.remove(&next);
            work.push(nodes[next].work.clone());
            for follower in &followers[next] {
                missing[*follower] -= 1;
                if missing[*follower] == 0 {
                    ready.insert(*follower);
                }
            }
        }
        work.into()
    }

    /// `cuGraphDestroy`: what was instantiated of it stays.
    pub fn destroy_graph(&mut self, graph: u64) -> Answer {
        self.context()?;
        let removed = self.graphs.remove(&graph).ok_or(Error::INVALID_VALUE)?;
        removed.handles.iter().for_each(|node| drop(self.nodes.remove(node)));
        Ok(())
    }

    /// `cuGraphExecDestroy`: launches that wait in streams are still run.
    pub fn destroy_executable(&mut self, executable: u64) -> Answer {
        self.context()?;
        let removed = self.executables.remove(&executable).ok_or(Error::INVALID_VALUE)?;
        if let Some(graph) = self.graphs.get_mut(&removed.graph) {
            graph.executable = None;
        }
        Ok(())
    }
}
