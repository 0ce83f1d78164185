//! Kernels in PTX through the calls of the driver: modules, variables, parameters, graphs.

mod c;

use std::ffi::c_void;
use std::ptr::null_mut;

use c::*;

/// `scale` multiplies `n` numbers by `factor` and adds 1 to `launches` in its first thread.
const PTX: &std::ffi::CStr = cr#"
.version 9.0
.target sm_90
.address_size 64

.visible .global .align 4 .u32 launches = 5;

.visible .entry scale(
    .param .u64 scale_param_0,
    .param .u32 scale_param_1,
    .param .f64 scale_param_2
)
{
    .reg .pred %p<3>;
    .reg .f64 %fd<4>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<6>;

    ld.param.u64 %rd1, [scale_param_0];
    ld.param.u32 %r1, [scale_param_1];
    ld.param.f64 %fd1, [scale_param_2];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra $L__end;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r5, 8;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.f64 %fd2, [%rd4];
    mul.f64 %fd3, %fd2, %fd1;
    st.global.f64 [%rd4], %fd3;
    setp.ne.u32 %p2, %r5, 0;
    @%p2 bra $L__end;
    ld.global.u32 %r6, [launches];
    add.s32 %r7, %r6, 1;
    st.global.u32 [launches], %r7;
$L__end:
    ret;
}
"#;

#[test]
fn a_module_is_loaded_and_its_kernel_launched_and_captured() {
    let _device = device();
    let s = stream();
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    let address = upload(&values, s);
    let (mut module, mut function, mut missing) = (null_mut(), null_mut(), null_mut());
    let (mut at, mut n, mut factor) = (address, 100_u32, 2.0_f64);
    let mut parameters: [*mut c_void; 3] =
        [(&raw mut at).cast(), (&raw mut n).cast(), (&raw mut factor).cast()];
    let (mut variable, mut len) = (0, 0);
    let (mut graph, mut run) = (null_mut(), null_mut());
    let mut launches = [0_u32];
    let mut result = values.clone();
    // SAFETY: the pointers are to places of their types, and the parameters are those of the kernel.
    unsafe {
        assert_eq!(cuModuleLoadData(&raw mut module, PTX.as_ptr().cast()), 0);
        assert_eq!(cuModuleGetFunction(&raw mut missing, module, c"none".as_ptr()), 500);
        assert_eq!(cuModuleGetFunction(&raw mut function, module, c"scale".as_ptr()), 0);
        assert_eq!(cuModuleGetGlobal_v2(&raw mut variable, &raw mut len, module, c"launches".as_ptr()), 0);
        assert_eq!(len, 4);
        assert_eq!(simcuda_reset_counts(), 0);
        let mut launch = |threads| {
            cuLaunchKernel(function, 4, 1, 1, threads, 1, 1, 0, s, parameters.as_mut_ptr(), null_mut())
        };
        assert_eq!((launch(32), launch(1025), launch(0)), (0, 1, 1));
        // The parameters are copied at the launch and at the capture, not when the kernel runs.
        assert_eq!(cuStreamBeginCapture_v2(s, 1), 0);
        assert_eq!(launch(32), 0);
        assert_eq!(cuStreamEndCapture(s, &raw mut graph), 0);
        factor = f64::NAN;
        n = 0;
        assert!(factor.is_nan() && n == 0);
        assert_eq!(cuGraphInstantiateWithFlags(&raw mut run, graph, 0), 0);
        assert_eq!((cuGraphLaunch(run, s), cuGraphLaunch(run, s)), (0, 0));
        read_back(&mut result, address, s);
        read_back(&mut launches, variable, s);
        assert_eq!((cuModuleUnload(module), cuModuleUnload(module)), (0, 400));
    }
    assert_eq!(result, values.iter().map(|value| value * 8.0).collect::<Vec<_>>());
    assert_eq!(launches, [8]);
    let counts = counts();
    assert_eq!(
        (counts.launches, counts.graph_launches, counts.graph_kernels, counts.kernels_run),
        (1, 2, 2, 3)
    );
    assert_eq!(counts.kernels.bytes_read, 3 * (100 * 8 + 4));
    assert_eq!(counts.kernels.bytes_written, 3 * (100 * 8 + 4));
    // SAFETY: there are no pointers.
    unsafe { assert_eq!((cuGraphExecDestroy(run), cuGraphDestroy(graph)), (0, 0)) };
}
