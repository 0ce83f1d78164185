//! What is wrong is found, and told by name. `tests/seeded_faults.rs` has the faults of whole kernels.

use super::*;
use crate::fault::FaultKind;

#[test]
fn a_lane_that_waits_elsewhere_is_named_with_its_place() {
    let body = "setp.ge.u32 %p1, %r2, 24; @%p1 bra $b; redux.sync.add.u32 %r6, %r2, -1; $b: bar.sync 0;";
    let fault = run(&module("", body), 1, 32, &[0; 32], &Options::default()).fault();
    assert_eq!(fault.kind, FaultKind::Deadlock);
    assert_eq!(
        fault.message,
        "lane 0 waits for the lanes 0xffffffff that it names, and lane 24 never comes: it waits in `bar.sync 0;`"
    );
}

#[test]
fn a_barrier_on_two_ways() {
    let body = "setp.lt.u32 %p1, %r2, 16; @%p1 bra $a; bar.sync 0; bra $end; $a: bar.sync 0; $end: ret;";
    let fault = run(&module("", body), 1, 32, &[0; 32], &Options::default()).fault();
    assert_eq!(fault.kind, FaultKind::Deadlock);
    assert!(fault.message.starts_with("lanes 0 and 16 of a warp wait at different barriers"), "{fault}");
    let unaligned = body.replace("bar.sync", "barrier.sync");
    assert!(run(&module("", &unaligned), 1, 32, &[0; 32], &Options::default()).result.is_ok());
    let fault = run(&module("", "bar.sync 0, 64;"), 1, 32, &[0; 32], &Options::default()).fault();
    assert_eq!(
        fault.message,
        "a barrier waits for threads that never come: fewer threads come than it names"
    );
}

#[test]
fn addresses_that_are_not_aligned() {
    for (instruction, message) in [
        ("ld.global.u32 %r6, [%d1+2];", "4 bytes at 0x"),
        ("st.global.v4.f32 [%d1+8], {%f1, %f1, %f1, %f1};", "16 bytes at 0x"),
        ("atom.global.add.u32 %r6, [%d1+1], 1;", "4 bytes at 0x"),
    ] {
        let fault = run(&module("", instruction), 1, 1, &[0; 8], &Options::default()).fault();
        assert_eq!(fault.kind, FaultKind::Misaligned);
        assert!(fault.message.starts_with(message), "{fault}");
    }
}

#[test]
fn memories_have_ends() {
    for (instruction, message) in [
        ("ld.param.u32 %r6, [n+4];", "4 bytes at 20 of parameters of 20 bytes"),
        (".shared .b32 s; st.shared.u32 [s+4], 0;", "4 bytes at 4 of shared memory of 4 bytes"),
        (".local .align 16 .b8 s[16]; st.local.u32 [s+16], 0;", "4 bytes at 16 of local memory of 16 bytes"),
        ("mov.u64 %d6, 0; ld.global.u32 %r6, [%d6];", "4 bytes at 0x0, which is no memory of the device"),
    ] {
        let fault = run(&module("", instruction), 1, 1, &[0; 8], &Options::default()).fault();
        assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::IllegalAddress, message));
    }
}

#[test]
fn threads_that_write_one_place() {
    let global = "st.global.u32 [%d1], %r2;";
    assert_eq!(run(&module("", global), 1, 2, &[0; 8], &Options::default()).fault().kind, FaultKind::Race);
    let blind = Options { races: false, ..Options::default() };
    assert!(run(&module("", global), 1, 2, &[0; 8], &blind).result.is_ok());
    assert!(
        run(&module("", global), 2, 1, &[0; 8], &Options::default()).result.is_ok(),
        "blocks are not compared"
    );
    let atomic = "atom.global.exch.b32 %r6, [%d1], %r2;";
    assert!(run(&module("", atomic), 1, 64, &[0; 8], &Options::default()).result.is_ok());
    let strong = "st.volatile.global.u32 [%d1], %r2;";
    assert!(run(&module("", strong), 1, 64, &[0; 8], &Options::default()).result.is_ok());
}

#[test]
fn forms_that_are_not_there_fault_when_they_run() {
    for form in [
        "add.f32.sat %f1, %f1, 5;",
        "wgmma.fence.sync.aligned;",
        "mul.u32 %r6, %r6, %r6;",
        "setp.lt.b32 %p1, %r6, %r6;",
        "fma.f32 %f1, %f1, %f1, %f1;",
        "cvt.f16.f32 %h1, %f1;",
        "ld.global.b128 %d6, [%d1];",
        "mov.u32 %r6, %unheard_of;",
        "add.s32 %r6, %r6;",
        "call unknown;",
        "bra $nowhere;",
        "barrier.cluster.arrive;",
        "mapa.shared::cluster.u32 %r6, %r6, 0;",
    ] {
        let fault = run(&module("", form), 1, 1, &[0], &Options::default()).fault();
        assert_eq!(fault.kind, FaultKind::IllegalInstruction);
        assert_eq!(fault.message, format!("`{form}` is not known here"));
        let skipped = format!("bra $end; {form} $end: ret;");
        assert!(run(&module("", &skipped), 1, 1, &[0], &Options::default()).result.is_ok());
    }
}

#[test]
fn what_is_no_module_says_the_line() {
    let mut memory = Memory::new(100);
    for (text, message) in [
        ("", "line 0: a module starts with `.version`; found the end"),
        (".version 8.0\n.target sm_90\n.entry k() { add.u32 %r1, 1 2; }", "line 3: `,` or `;` is missing"),
        (".version 8.0\n.global .u32 x[40];", "no memory for `x`, 160 bytes"),
        (".version 8.0\n.extern .global .u32 x;", "`x` is declared, but not there"),
        (".version 8.0\n.surfref x;", "line 2: this directive is not known"),
        (".version 8.0\n.entry k() {\n ret;", "line 3: a statement is missing; found the end"),
    ] {
        let error = Module::load(text, &mut memory).expect_err("no module").0;
        assert!(error.starts_with(message), "{error}");
    }
}
