//! What a captured graph tells of its nodes, in the order in which they were recorded.

mod c;

use std::ffi::{CStr, c_void};
use std::mem::{MaybeUninit, offset_of};
use std::ptr::{
    null, null_mut, with_exposed_provenance, with_exposed_provenance_mut, without_provenance_mut,
};

use c::graphs::{graph, kernel, nodes, parameters};
use c::product::PRODUCT;
use c::*;

const MODULE: &CStr = c"
.version 8.0
.target sm_80
.address_size 64
.visible .entry three(.param .u64 three_param_0, .param .u32 three_param_1, .param .align 8 .b8 three_param_2[24])
{
    ret;
}
";

/// What `cuda.h` has: sizes, and places behind gaps.
#[test]
fn the_structures_are_those_of_the_header() {
    assert_eq!([size_of::<KernelNode>(), offset_of!(KernelNode, parameters)], [72, 40]);
    assert_eq!([size_of::<CopyNode>(), offset_of!(CopyNode, to), offset_of!(CopyEnd, host)], [200, 88, 40]);
    assert_eq!([size_of::<FillNode>(), offset_of!(FillNode, width)], [40, 24]);
    assert_eq!([size_of::<AllocationNode>(), offset_of!(AllocationNode, access)], [120, 88]);
}

/// A module with the kernel, and the kernel's function.
fn function() -> [*mut c_void; 2] {
    let (mut module, mut function) = (null_mut(), null_mut());
    // SAFETY: the pointers are to places of their types, and the texts end with a zero.
    unsafe {
        assert_eq!(cuModuleLoadData(&raw mut module, MODULE.as_ptr().cast()), 0);
        assert_eq!(cuModuleGetFunction(&raw mut function, module, c"three".as_ptr()), 0);
    }
    [module, function]
}

/// Launches the kernel, whose parameters the driver copies.
fn launch(function: *mut c_void, address: u64, number: u32, stream: *mut c_void) {
    let (mut address, mut number, mut table) = (address, number, [1_u64, 2, 3]);
    let mut parameters =
        [(&raw mut address).cast(), (&raw mut number).cast(), (&raw mut table).cast::<c_void>()];
    // SAFETY: the pointers are to parameters of the kernel's types.
    let answer = unsafe {
        cuLaunchKernel(function, 2, 3, 4, 32, 2, 1, 48, stream, parameters.as_mut_ptr(), null_mut())
    };
    assert_eq!(answer, 0);
}

/// A graph with a node of each kind.
struct Scene {
    graph: *mut c_void,
    nodes: Vec<*mut c_void>,
    function: *mut c_void,
    /// Memory of before, of the graph, and of the host.
    memory: [u64; 2],
    own: u64,
    pinned: *mut c_void,
}

const KINDS: [u32; 10] = [0, 2, 2, 2, 10, 1, 1, 1, 11, 0];

fn scene() -> Scene {
    let s = stream();
    let memory @ [a, b] = [upload(&[7_u8; 16], s), upload(&[8_u8; 16], s)];
    let [_, function] = function();
    let (mut own, mut pinned) = (0, null_mut());
    // SAFETY: the pointers are to places of their types; pinned memory has 16 bytes.
    let graph = unsafe {
        assert_eq!(cuMemHostAlloc(&raw mut pinned, 16, 0), 0);
        graph(s, || {
            launch(function, a, 5, s);
            assert_eq!(cuMemsetD8Async(a, 3, 5, s), 0);
            assert_eq!(cuMemsetD16Async(a + 2, 0x304, 6, s), 0);
            assert_eq!(cuMemsetD32Async(b, 0x3040_5060, 4, s), 0);
            assert_eq!(cuMemAllocAsync(&raw mut own, 24, s), 0);
            assert_eq!(cuMemcpyDtoDAsync_v2(own, a, 16, s), 0);
            assert_eq!(cuMemcpyHtoDAsync_v2(a, pinned, 12, s), 0);
            assert_eq!(cuMemcpyDtoHAsync_v2(pinned.byte_add(4), b + 8, 8, s), 0);
            assert_eq!(cuMemFreeAsync(own, s), 0);
            PRODUCT.push(s);
        })
    };
    let (nodes, kinds) = nodes(graph);
    assert_eq!(kinds, KINDS);
    Scene { graph, nodes, function, memory, own, pinned }
}

#[test]
fn a_kernel_tells_its_function_its_grid_and_each_parameter() {
    let _device = device();
    let Scene { nodes, function, memory, .. } = scene();
    let told = kernel(nodes[0]);
    let mut context = null_mut();
    // SAFETY: the pointer is to a place for a handle.
    assert_eq!(unsafe { cuCtxGetCurrent(&raw mut context) }, 0);
    assert_eq!((told.function, told.grid, told.shared), (function, [2, 3, 4, 32, 2, 1], 48));
    assert_eq!((told.extra, told.kernel, told.context), (null_mut(), null_mut(), context));
    let expected = [memory[0].to_le_bytes().to_vec(), 5_u32.to_le_bytes().to_vec()];
    let table = [1_u64, 2, 3].map(u64::to_le_bytes).concat();
    assert_eq!(parameters(nodes[0]), [&expected[..], &[table]].concat());
    let at = kernel(nodes[0]).parameters;
    assert_eq!(told.parameters, at, "the parameters stay where they are");
}

#[test]
fn the_parameters_of_a_function_are_told_by_number() {
    let _device = device();
    let [module, function] = function();
    for info in [cuFuncGetParamInfo, cuKernelGetParamInfo] {
        let info = |function, number| {
            let (mut offset, mut len) = (9, 9);
            // SAFETY: the pointers are to places of their types.
            (unsafe { info(function, number, &raw mut offset, &raw mut len) }, offset, len)
        };
        assert_eq!([0, 1, 2].map(|number| info(function, number)), [(0, 0, 8), (0, 8, 4), (0, 16, 24)]);
        assert_eq!([3, usize::MAX].map(|number| info(function, number)), [(1, 9, 9); 2]);
        assert_eq!([null_mut(), module].map(|other| info(other, 0)), [(1, 9, 9); 2]);
    }
    let mut offset = 9;
    // SAFETY: the pointers are to places of their types, or null.
    unsafe {
        assert_eq!((cuFuncGetParamInfo(function, 1, &raw mut offset, null_mut()), offset), (0, 8));
        assert_eq!(cuFuncGetParamInfo(function, 1, null_mut(), &raw mut offset), 1);
    }
}

#[test]
fn a_name_stays_when_the_thread_that_asked_for_it_has_ended() {
    let _device = device();
    let [_, function] = function();
    let mut context = null_mut();
    // SAFETY: the pointer is to a place for a handle.
    assert_eq!(unsafe { cuCtxGetCurrent(&raw mut context) }, 0);
    let (function, context) = (function.expose_provenance(), context.expose_provenance());
    let ask = move || {
        let mut name = null();
        // SAFETY: the pointer is to a place for a name.
        unsafe {
            assert_eq!(cuCtxSetCurrent(with_exposed_provenance_mut(context)), 0);
            assert_eq!(cuFuncGetName(&raw mut name, with_exposed_provenance_mut(function)), 0);
        }
        name.expose_provenance()
    };
    let name = std::thread::spawn(ask).join().expect("no panic");
    // SAFETY: the name is kept as long as the program runs, and ends with a zero.
    assert_eq!(unsafe { CStr::from_ptr(with_exposed_provenance(name)) }, c"three");
}

#[test]
fn a_function_of_a_module_that_is_gone_keeps_its_handle_in_the_node() {
    let _device = device();
    let s = stream();
    let [module, function] = function();
    let graph = graph(s, || launch(function, 0, 5, s));
    // SAFETY: there are no pointers.
    assert_eq!(unsafe { cuModuleUnload(module) }, 0);
    let (nodes, _) = nodes(graph);
    assert_eq!(kernel(nodes[0]).function, function);
    assert!(parameters(nodes[0]).is_empty(), "the handle is stale");
}

#[test]
fn fills_tell_what_how_often_and_where() {
    let _device = device();
    let Scene { nodes, memory: [a, b], .. } = scene();
    let fills = [1, 2, 3].map(|node: usize| {
        let mut fill = FillNode::default();
        // SAFETY: the pointer is to a place for the structure.
        assert_eq!(unsafe { cuGraphMemsetNodeGetParams(nodes[node], &raw mut fill) }, 0);
        fill
    });
    let fill = |to, value, size, width| FillNode { to, pitch: 0, value, size, width, height: 1 };
    assert_eq!(fills, [fill(a, 3, 1, 5), fill(a + 2, 0x304, 2, 6), fill(b, 0x3040_5060, 4, 4)]);
}

#[test]
fn copies_tell_which_end_is_the_hosts() {
    let _device = device();
    let Scene { nodes, memory: [a, b], own, pinned, .. } = scene();
    let copies = [5, 6, 7].map(|node: usize| {
        let mut copy = CopyNode::default();
        // SAFETY: the pointer is to a place for the structure.
        assert_eq!(unsafe { cuGraphMemcpyNodeGetParams(nodes[node], &raw mut copy) }, 0);
        copy
    });
    let end = |kind, host: usize, device: u64, pitch: usize| CopyEnd {
        kind,
        host,
        device,
        pitch,
        height: 1,
        ..CopyEnd::default()
    };
    let (on_host, on_device) =
        (|at: usize, len| end(1, at, 0, len), |address: u64, len| end(2, 0, address, len));
    let copy = |from, to, len| CopyNode { from, to, size: [len, 1, 1] };
    let pinned = pinned.addr();
    assert_eq!(copies[0], copy(on_device(a, 16), on_device(own, 16), 16));
    assert_eq!(copies[1], copy(on_host(pinned, 12), on_device(a, 12), 12));
    assert_eq!(copies[2], copy(on_device(b + 8, 8), on_host(pinned + 4, 8), 8));
}

#[test]
fn memory_of_the_graph_is_told_with_its_end() {
    let _device = device();
    let Scene { nodes, own, .. } = scene();
    let (mut allocation, mut freed) = (AllocationNode { access: 9, ..AllocationNode::default() }, 0);
    // SAFETY: the pointers are to places of their types.
    unsafe {
        assert_eq!(cuGraphMemAllocNodeGetParams(nodes[4], &raw mut allocation), 0);
        assert_eq!((cuGraphMemFreeNodeGetParams(nodes[8], &raw mut freed), freed), (0, own));
    }
    let expected =
        AllocationNode { kind: 1, location: [1, 0], len: 24, address: own, ..AllocationNode::default() };
    assert_eq!(allocation, expected);
}

#[test]
fn a_node_of_another_kind_an_unknown_one_and_no_place_are_errors() {
    let _device = device();
    let Scene { graph, nodes, function, .. } = scene();
    let (mut launch, mut copy, mut fill) =
        (MaybeUninit::<KernelNode>::zeroed(), CopyNode::default(), FillNode::default());
    let (mut allocation, mut freed, mut kind) = (AllocationNode::default(), 0, 0);
    // SAFETY: the pointers are to places of their types.
    let mut ask = |node| unsafe {
        [
            (0, cuGraphKernelNodeGetParams_v2(node, launch.as_mut_ptr())),
            (1, cuGraphMemcpyNodeGetParams(node, &raw mut copy)),
            (2, cuGraphMemsetNodeGetParams(node, &raw mut fill)),
            (10, cuGraphMemAllocNodeGetParams(node, &raw mut allocation)),
            (11, cuGraphMemFreeNodeGetParams(node, &raw mut freed)),
            (99, cuGraphNodeGetType(node, &raw mut kind)),
        ]
    };
    for (node, kind) in nodes.iter().zip(KINDS) {
        for (asked, answer) in ask(*node) {
            assert_eq!(answer, i32::from(asked != kind && asked != 99), "{asked} of a node of kind {kind}");
        }
    }
    for unknown in [null_mut(), graph, function] {
        assert!(ask(unknown).iter().all(|(_, answer)| *answer == 1));
    }
    // SAFETY: a null pointer is refused.
    unsafe {
        assert_eq!(cuGraphNodeGetType(nodes[0], null_mut()), 1);
        assert_eq!(cuGraphKernelNodeGetParams_v2(nodes[0], null_mut()), 1);
        assert_eq!(cuGraphMemsetNodeGetParams(nodes[1], null_mut()), 1);
        assert_eq!(cuGraphMemAllocNodeGetParams(nodes[4], null_mut()), 1);
        assert_eq!(cuGraphMemcpyNodeGetParams(nodes[5], null_mut()), 1);
        assert_eq!(cuGraphMemFreeNodeGetParams(nodes[8], null_mut()), 1);
        assert_eq!(cuGraphDestroy(graph), 0);
    }
    for node in nodes {
        assert!(ask(node).iter().all(|(_, answer)| *answer == 1), "its graph is destroyed");
    }
}

#[test]
fn handles_are_the_same_in_each_call_and_others_in_each_graph() {
    let _device = device();
    let (first, second) = (scene(), scene());
    assert!(first.nodes.iter().all(|node| !second.nodes.contains(node)));
    let some = |graph, room: usize| {
        let (mut places, mut count) = (vec![null_mut::<c_void>().wrapping_byte_add(1); room], room);
        // SAFETY: the pointers are to places of their types, and there are as many as is said.
        let answer = unsafe { cuGraphGetNodes(graph, places.as_mut_ptr(), &raw mut count) };
        assert_eq!(answer, 0);
        (places, count)
    };
    let all = first.nodes.len();
    assert_eq!(some(first.graph, all), (first.nodes.clone(), all));
    assert_eq!(some(first.graph, 2), (first.nodes[..2].to_vec(), 2));
    assert_eq!(some(first.graph, all + 2), ([&first.nodes[..], &[null_mut(); 2]].concat(), all));
    let mut count = 9;
    // SAFETY: the pointer is to a place for a number; a null pointer is refused.
    unsafe {
        let mut counted = |graph| (cuGraphGetNodes(graph, null_mut(), &raw mut count), count);
        assert_eq!((counted(first.graph), counted(null_mut())), ((0, all), (1, all)));
        assert_eq!(cuGraphGetNodes(first.graph, null_mut(), null_mut()), 1);
        assert_eq!(cuGraphDestroy(first.graph), 0);
        assert_eq!(counted(first.graph), (1, all));
        assert_eq!(counted(graph(stream(), || ())), (0, 0), "nothing was recorded");
        assert_eq!(cuGraphGetNodes(second.graph, null_mut(), &raw mut count), 0);
    }
    assert_eq!(nodes(second.graph), (second.nodes, KINDS.to_vec()));
}

/// A graph cannot tell what a launch of them would give.
#[test]
fn random_numbers_are_not_captured() {
    let _device = device();
    let s = stream();
    let address = upload(&[0_f32; 4], s);
    let (mut generator, mut graph) = (null_mut(), null_mut());
    let at = without_provenance_mut(address as usize);
    // SAFETY: the pointers are to places of their types; that of the device is not followed here.
    unsafe {
        assert_eq!((curandCreateGenerator(&raw mut generator, 100), curandSetStream(generator, s)), (0, 0));
        assert_eq!(cuStreamBeginCapture_v2(s, 2), 0);
        assert_eq!(curandGenerateUniform(generator, at, 4), 201);
        assert_eq!((cuStreamEndCapture(s, &raw mut graph), graph), (901, null_mut()));
        assert_eq!(curandDestroyGenerator(generator), 0);
    }
}
