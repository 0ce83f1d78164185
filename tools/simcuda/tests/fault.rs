//! A fault, which ends the context of the process: a test that is alone in its own.

mod c;

use std::ffi::c_void;
use std::ptr::null_mut;

use c::*;

/// Writes one number behind those that are there.
const PTX: &std::ffi::CStr = cr#"
.version 9.0
.target sm_90
.address_size 64

.visible .entry behind(.param .u64 behind_param_0)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;

    ld.param.u64 %rd1, [behind_param_0];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, 1;
    st.global.u32 [%rd2+16], %r1;
    ret;
}
"#;

#[test]
fn a_store_outside_of_memory_is_seen_by_who_waits_and_then_by_all() {
    let _device = device();
    let s = stream();
    let address = upload(&[0_u32; 4], s);
    let (mut module, mut function, mut at) = (null_mut(), null_mut(), address);
    let mut parameters: [*mut c_void; 1] = [(&raw mut at).cast()];
    let mut event = null_mut();
    // SAFETY: the pointers are to places of their types, and the parameters are those of the kernel.
    unsafe {
        assert_eq!(cuModuleLoadData(&raw mut module, PTX.as_ptr().cast()), 0);
        assert_eq!(cuModuleGetFunction(&raw mut function, module, c"behind".as_ptr()), 0);
        assert_eq!(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, s, parameters.as_mut_ptr(), null_mut()), 0);
        assert_eq!(cuEventCreate(&raw mut event, 2), 0, "not known yet");
        assert_eq!(cuStreamSynchronize(s), 700);
        assert_eq!(cuStreamSynchronize(s), 700);
        assert_eq!(cuEventRecord(event, s), 700);
        assert_eq!(cuMemFreeAsync(address, s), 700);
        assert_eq!(cuModuleUnload(module), 700);
        assert_eq!(cuInit(0), 0);
    }
}
