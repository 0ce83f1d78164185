//! Graphs.

use super::super::error::Error;
use super::calls;
use super::pointer::Out;

calls! { Error;
    /// Makes a graph that can be launched.
    fn cuGraphInstantiateWithFlags(device, executable: Out<u64>, graph: u64, flags: u64) {
        executable.set(device.instantiate(graph, flags)?)
    }

    /// Prepares a launch.
    fn cuGraphUpload(device, executable: u64, stream: u64) { device.upload_graph(executable, stream) }

    /// Launches a graph.
    fn cuGraphLaunch(device, executable: u64, stream: u64) { device.launch_graph(executable, stream) }

    /// Destroys a graph.
    fn cuGraphDestroy(device, graph: u64) { device.destroy_graph(graph) }

    /// Destroys a graph that can be launched.
    fn cuGraphExecDestroy(device, executable: u64) { device.destroy_executable(executable) }
}
