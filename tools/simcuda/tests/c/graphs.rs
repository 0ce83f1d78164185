//! Graphs of what a test records, and their nodes.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use super::*;

/// The nodes of a graph, and the number of each one's kind.
pub fn nodes(graph: *mut c_void) -> (Vec<*mut c_void>, Vec<u32>) {
    let mut count = 0;
    // SAFETY: the pointers are to places of their types, and there is one for each node.
    unsafe {
        assert_eq!(cuGraphGetNodes(graph, null_mut(), &raw mut count), 0);
        let mut nodes = vec![null_mut(); count];
        assert_eq!(cuGraphGetNodes(graph, nodes.as_mut_ptr(), &raw mut count), 0);
        let kind = |node: &*mut c_void| {
            let mut kind = 99;
            assert_eq!(cuGraphNodeGetType(*node, &raw mut kind), 0);
            kind
        };
        let kinds = nodes.iter().map(kind).collect();
        (nodes, kinds)
    }
}

/// The graph of what is done between its begin and its end.
pub fn graph(stream: *mut c_void, record: impl FnOnce()) -> *mut c_void {
    let mut graph = null_mut();
    // SAFETY: the pointer is to a place for a handle.
    unsafe {
        assert_eq!(cuStreamBeginCapture_v2(stream, 2), 0);
        record();
        assert_eq!(cuStreamEndCapture(stream, &raw mut graph), 0);
    }
    graph
}

pub fn kernel(node: *mut c_void) -> KernelNode {
    let mut kernel = MaybeUninit::zeroed();
    // SAFETY: the pointer is to a place for the structure, of which all bits are values.
    unsafe {
        assert_eq!(cuGraphKernelNodeGetParams_v2(node, kernel.as_mut_ptr()), 0);
        kernel.assume_init()
    }
}

/// The bytes of each parameter, by the lengths of `cuFuncGetParamInfo`.
pub fn parameters(node: *mut c_void) -> Vec<Vec<u8>> {
    let kernel = kernel(node);
    let (mut all, mut offset, mut len) = (Vec::new(), 0, 0);
    // SAFETY: the pointers are to places of their types; the node's pointers are to the parameters.
    unsafe {
        while cuFuncGetParamInfo(kernel.function, all.len(), &raw mut offset, &raw mut len) == 0 {
            let bytes = (*kernel.parameters.add(all.len())).cast::<u8>();
            all.push(std::slice::from_raw_parts(bytes, len).to_vec());
        }
    }
    all
}
