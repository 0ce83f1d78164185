//! What a captured graph tells of its nodes, in the order in which they were recorded.

mod c;

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use c::*;

const MODULE: &CStr = c"
.version 8.0
.target sm_80
.address_size 64
.visible .entry two(.param .u64 two_param_0, .param .u32 two_param_1)
{
    ret;
}
";

/// The nodes of a graph, and the number of each one's kind.
fn nodes(graph: *mut c_void) -> (Vec<*mut c_void>, Vec<u32>) {
    let mut count = 0;
    // SAFETY: the pointers are to places of their types, and there is one for each node.
    unsafe {
        assert_eq!(cuGraphGetNodes(graph, null_mut(), &raw mut count), 0);
        let (mut nodes, mut again) = (vec![null_mut(); count], vec![null_mut(); count]);
        assert_eq!(cuGraphGetNodes(graph, nodes.as_mut_ptr(), &raw mut count), 0);
        assert_eq!(cuGraphGetNodes(graph, again.as_mut_ptr(), &raw mut count), 0);
        assert_eq!(nodes, again, "a node has one handle");
        let kind = |node: &*mut c_void| {
            let mut kind = 99;
            assert_eq!(cuGraphNodeGetType(*node, &raw mut kind), 0);
            kind
        };
        let kinds = nodes.iter().map(kind).collect();
        (nodes, kinds)
    }
}

#[test]
fn each_node_tells_what_it_does() {
    let _device = device();
    let s = stream();
    let (a, b) = (upload(&[7_u8; 16], s), upload(&[8_u8; 16], s));
    let (mut module, mut function, mut graph, mut name) = (null_mut(), null_mut(), null_mut(), null());
    let (mut own, mut one, mut two) = (0, a, 5_u32);
    let mut parameters = [(&raw mut one).cast(), (&raw mut two).cast::<c_void>()];
    // SAFETY: the pointers are to places of their types; those of a kernel's parameters live as long as the graph.
    unsafe {
        assert_eq!(cuModuleLoadData(&raw mut module, MODULE.as_ptr().cast()), 0);
        assert_eq!(cuModuleGetFunction(&raw mut function, module, c"two".as_ptr()), 0);
        assert_eq!(cuStreamBeginCapture_v2(s, 2), 0);
        assert_eq!(cuMemsetD8Async(a, 3, 5, s), 0);
        assert_eq!(cuLaunchKernel(function, 2, 1, 1, 32, 1, 1, 0, s, parameters.as_mut_ptr(), null_mut()), 0);
        assert_eq!(cuMemAllocAsync(&raw mut own, 24, s), 0);
        assert_eq!(cuMemcpyDtoDAsync_v2(b, a, 16, s), 0);
        assert_eq!(cuMemFreeAsync(own, s), 0);
        assert_eq!(cuStreamEndCapture(s, &raw mut graph), 0);

        let (nodes, kinds) = nodes(graph);
        assert_eq!(kinds, [2, 0, 10, 1, 11]);
        let mut fill = [0; 5];
        assert_eq!(cuGraphMemsetNodeGetParams(nodes[0], &raw mut fill), 0);
        assert_eq!(fill, [a, 0, 3 | 1 << 32, 5, 1]);

        let mut kernel = MaybeUninit::<KernelNode>::zeroed();
        assert_eq!(cuGraphKernelNodeGetParams_v2(nodes[1], kernel.as_mut_ptr()), 0);
        let kernel = kernel.assume_init();
        assert_eq!((kernel.function, kernel.grid, kernel.shared), (function, [2, 1, 1, 32, 1, 1], 0));
        let (mut offset, mut len) = (9, 9);
        assert_eq!((cuFuncGetParamInfo(function, 1, &raw mut offset, &raw mut len), offset, len), (0, 8, 4));
        assert_eq!(cuFuncGetParamInfo(function, 2, &raw mut offset, &raw mut len), 1);
        assert_eq!((*kernel.parameters).cast::<u64>().read_unaligned(), a);
        assert_eq!((*kernel.parameters.add(1)).cast::<u32>().read_unaligned(), 5);
        assert_eq!(cuFuncGetName(&raw mut name, function), 0);
        assert_eq!(CStr::from_ptr(name), c"two");

        let mut allocation = [0; 15];
        assert_eq!(cuGraphMemAllocNodeGetParams(nodes[2], &raw mut allocation), 0);
        assert_eq!(allocation[13..], [24, own]);
        let mut copy = [0; 25];
        assert_eq!(cuGraphMemcpyNodeGetParams(nodes[3], &raw mut copy), 0);
        assert_eq!([copy[4], copy[6], copy[15], copy[17], copy[22]], [2, a, 2, b, 16]);
        let mut freed = 0;
        assert_eq!((cuGraphMemFreeNodeGetParams(nodes[4], &raw mut freed), freed), (0, own));

        assert_eq!(cuGraphMemcpyNodeGetParams(nodes[0], &raw mut copy), 1, "it is a node of another kind");
        let mut kind = 0;
        assert_eq!((cuGraphDestroy(graph), cuGraphNodeGetType(nodes[0], &raw mut kind)), (0, 1));
    }
}

#[test]
fn a_product_tells_all_of_its_numbers() {
    let _device = device();
    let s = stream();
    let (mut handle, one, zero) = (null_mut(), 1_f64, 0_f64);
    let [a, b, c] = [1, 2, 3].map(|_| upload(&[1_f64; 4], s));
    let at = |address: u64| std::ptr::without_provenance_mut::<f64>(address as usize);
    let mut words = |alpha: f64, columns: i32| {
        let (mut graph, mut kernel) = (null_mut(), MaybeUninit::<KernelNode>::zeroed());
        // SAFETY: as above.
        unsafe {
            assert_eq!((cublasCreate_v2(&raw mut handle), cublasSetStream_v2(handle, s)), (0, 0));
            assert_eq!(cuStreamBeginCapture_v2(s, 2), 0);
            let (alpha, beta) = (&raw const alpha, &raw const zero);
            let size = [2, columns, 2];
            let answer = cublasDgemmStridedBatched(
                handle,
                0,
                0,
                size[0],
                size[1],
                size[2],
                alpha,
                at(a),
                2,
                4,
                at(b),
                2,
                4,
                beta,
                at(c),
                2,
                4,
                1,
            );
            assert_eq!((answer, cuStreamEndCapture(s, &raw mut graph)), (0, 0));
            let (nodes, kinds) = nodes(graph);
            assert_eq!(kinds, [0]);
            assert_eq!(cuGraphKernelNodeGetParams_v2(nodes[0], kernel.as_mut_ptr()), 0);
            let kernel = kernel.assume_init();
            let (mut words, mut offset, mut len) = (Vec::new(), 0, 0);
            while cuFuncGetParamInfo(kernel.function, words.len(), &raw mut offset, &raw mut len) == 0 {
                assert_eq!((offset, len), (8 * words.len(), 8));
                words.push((*kernel.parameters.add(words.len())).cast::<u64>().read_unaligned());
            }
            words
        }
    };
    let first = words(one, 2);
    assert!([a, b, c].iter().all(|address| first.contains(address)), "{first:?}");
    assert_eq!(first, words(one, 2));
    assert_ne!(first, words(2., 2));
    assert_ne!(first, words(one, 1));
}
