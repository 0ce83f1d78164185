//! Ways that part and meet, calls, and turns.

use super::*;
use crate::fault::FaultKind;
use crate::launch::Order;

#[test]
fn lanes_part_and_meet_again() {
    // Lane i goes i times around; then all are together.
    let body = "mov.u32 %r6, 0;
            mov.u32 %r7, %laneid;
        $loop:
            setp.ge.u32 %p1, %r6, %r7;
            @%p1 bra $done;
            add.u32 %r6, %r6, 1;
            and.b32 %r8, %r6, 1;
            setp.eq.u32 %p2, %r8, 0;
            @%p2 bra $even;
            add.u32 %r9, %r6, 100;
            bra $loop;
        $even:
            add.u32 %r9, %r6, 200;
            bra.uni $loop;
        $done:
            activemask.b32 %r10;
            popc.b32 %r11, %r10;
            mad.lo.u32 %r12, %r11, 1000, %r6;
            st.global.u32 [%d4], %r12;";
    let ran = run(&module("", body), 1, 32, &numbers(32), &Options::default());
    assert_eq!(ran.words(), (32_000..32_032).collect::<Vec<_>>());
}

#[test]
fn predicates_guard_and_are_negated() {
    let body = "setp.lt.u32 %p1|%p2, %r2, 3;
            mov.u32 %r6, 5;
            @%p1 mov.u32 %r6, 6;
            @!%p1 add.u32 %r6, %r6, 10;
            @%p2 add.u32 %r6, %r6, 100;
            selp.b32 %r7, 1, 0, !%p1;
            add.u32 %r6, %r6, %r7;
            @!%p1 exit;
            st.global.u32 [%d4], %r6;";
    let ran = run(&module("", body), 1, 5, &numbers(5), &Options::default());
    assert_eq!(ran.words(), [6, 6, 6, u32::MAX, u32::MAX]);
}

#[test]
fn branches_by_index() {
    let body = "and.b32 %r6, %r2, 3;
            ts: .branchtargets $a, $b, $a, $c;
            brx.idx %r6, ts;
        $a: mov.u32 %r7, 10;
            bra $end;
        $b: mov.u32 %r7, 11;
            bra $end;
        $c: mov.u32 %r7, 12;
        $end:
            st.global.u32 [%d4], %r7;";
    let ran = run(&module("", body), 1, 8, &numbers(8), &Options::default());
    assert_eq!(ran.words(), [10, 11, 10, 12, 10, 11, 10, 12]);
    let beyond = body.replace("and.b32 %r6, %r2, 3", "and.b32 %r6, %r2, 7");
    let fault = run(&module("", &beyond), 1, 8, &numbers(8), &Options::default()).fault();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::IllegalInstruction, "branch 4 of 4"));
}

const FUNCTIONS: &str = "
    .func (.param .b32 result) twice(.param .b32 x)
    {
        .reg .b32 %r<3>;
        ld.param.u32 %r1, [x];
        add.u32 %r2, %r1, %r1;
        st.param.b32 [result], %r2;
        ret;
    }
    .func (.reg .b32 %sum) sum(.reg .b32 %a, .reg .b32 %b) { add.u32 %sum, %a, %b; }
    .func (.param .align 8 .b8 result[16]) pair(.param .align 8 .b8 p[16])
    {
        .reg .b64 %d<3>;
        .reg .b32 %r<4>;
        ld.param.u64 %d1, [p];
        ld.param.u32 %r1, [p+8];
        {
            .param .b32 param0;
            st.param.b32 [param0], %r1;
            .param .b32 retval0;
            call.uni (retval0), twice, (param0);
            ld.param.b32 %r2, [retval0];
        }
        st.param.u64 [result], %d1;
        st.param.u32 [result+8], %r2;
        ret;
    }";

#[test]
fn functions_take_and_give() {
    // Only odd lanes call; the registers of a caller stay as they were.
    let body = "and.b32 %r6, %r2, 1;
            mov.u32 %r7, %r2;
            setp.eq.u32 %p1, %r6, 0;
            @%p1 bra $skip;
            {
                .param .align 8 .b8 param0[16];
                st.param.u64 [param0], %d4;
                st.param.b32 [param0+8], %r7;
                .param .align 8 .b8 retval0[16];
                call.uni (retval0), pair, (param0);
                ld.param.b32 %r7, [retval0+8];
                ld.param.b64 %d6, [retval0];
            }
            setp.ne.u64 %p2, %d6, %d4;
            @%p2 trap;
        $skip:
            call (%r8), sum, (%r7, 500);
            mov.u32 %r9, 250;
            call (%r10), twice, (%r9);
            add.u32 %r8, %r8, %r10;
            st.global.u32 [%d4], %r8;";
    let ran = run(&module(FUNCTIONS, body), 1, 6, &numbers(6), &Options::default());
    assert_eq!(ran.words(), [1000, 1002, 1002, 1006, 1004, 1010]);
}

#[test]
fn recursion_is_refused_by_name() {
    let function = ".func f() { call g; ret; } .func g() { call f; ret; }";
    let declared = ".func g(); ";
    let fault =
        run(&module(&(declared.to_owned() + function), "call f;"), 1, 1, &[0], &Options::default()).fault();
    assert_eq!(fault.kind, FaultKind::IllegalInstruction);
    assert_eq!(fault.message, "`call f;` is not known here");
}

#[test]
fn assertions_tell_their_text() {
    let before = ".global .align 1 .b8 $what[6] = {105, 32, 60, 32, 110};
        .global .align 1 .b8 $file[5] = {97, 46, 99, 117};
        .global .align 1 .b8 $of[2] = {102};
        .extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);";
    let body = "setp.lt.u32 %p1, %r2, 2;
            @%p1 bra $end;
            mov.u64 %d6, $what;
            cvta.global.u64 %d7, %d6;
            mov.u64 %d8, $file;
            cvta.global.u64 %d9, %d8;
            mov.u64 %d10, $of;
            cvta.global.u64 %d11, %d10;
            {
                .param .b64 param0; st.param.b64 [param0], %d7;
                .param .b64 param1; st.param.b64 [param1], %d9;
                .param .b32 param2; st.param.b32 [param2], 42;
                .param .b64 param3; st.param.b64 [param3], %d11;
                .param .b64 param4; st.param.b64 [param4], 1;
                call.uni __assertfail, (param0, param1, param2, param3, param4);
            }
        $end: ret;";
    let fault = run(&module(before, body), 1, 4, &[0; 4], &Options::default()).fault();
    assert_eq!(
        (fault.kind, fault.message.as_str()),
        (FaultKind::Assert, "assertion `i < n` of `f` in a.cu:42")
    );
    assert!(fault.place.starts_with("kernel k, block [0, 0, 0], thread [2, 0, 0], `call.uni __assertfail,"));
}

#[test]
fn printing_counts_its_values() {
    let before = ".global .align 1 .b8 $text[10] = {37, 100, 32, 37, 46, 49, 102, 10};
        .extern .func (.param .b32 r) vprintf(.param .b64 a, .param .b64 b);";
    let body = ".local .align 8 .b8 values[16];
            st.local.u32 [values], %r2;
            mov.f64 %d6, 0d3FF8000000000000;
            st.local.f64 [values+8], %d6;
            mov.u64 %d7, values;
            cvta.local.u64 %d8, %d7;
            mov.u64 %d9, $text;
            {
                .param .b64 param0; st.param.b64 [param0], %d9;
                .param .b64 param1; st.param.b64 [param1], %d8;
                .param .b32 retval0;
                call.uni (retval0), vprintf, (param0, param1);
                ld.param.b32 %r6, [retval0];
            }
            st.global.u32 [%d4], %r6;";
    assert_eq!(run(&module(before, body), 1, 2, &[0; 2], &Options::default()).words(), [2, 2]);
}

#[test]
fn lanes_and_warps_that_wait_for_each_other_go_on() {
    // A lock that each thread takes once: who holds it is at a higher instruction than who waits.
    let before = ".global .align 4 .u32 lock = 0; .global .align 4 .u32 sum = 0;";
    let body = "
        $again:
            atom.global.acquire.gpu.cas.b32 %r6, [lock], 0, 1;
            setp.ne.u32 %p1, %r6, 0;
            @%p1 bra $again;
            ld.global.u32 %r7, [sum];
            add.u32 %r7, %r7, %r5;
            st.global.u32 [sum], %r7;
            atom.global.release.gpu.exch.b32 %r6, [lock], 0;
            st.global.u32 [%d4], %r7;";
    for order in [Order::Forward, Order::Reversed, Order::Seeded(3)] {
        let options = Options { order, races: false, ..Options::default() };
        let words = run(&module(before, body), 2, 34, &[0; 68], &options).words();
        assert_eq!(words.iter().max(), Some(&(67 * 68 / 2)));
    }
}

#[test]
fn time_is_limited() {
    let options = Options { instructions: 1000, ..Options::default() };
    let fault = run(&module("", "$l: bra $l;"), 1, 32, &[0; 32], &options).fault();
    assert_eq!(fault.kind, FaultKind::TimeOut);
    assert_eq!(fault.message, "more than 1000 instructions in one warp");
    assert_eq!(fault.place, "kernel k, block [0, 0, 0], thread [0, 0, 0], `bra $l;`");
}

#[test]
fn orders_change_who_comes_first() {
    let before = ".global .align 4 .u32 next = 0;";
    let body = "atom.global.add.u32 %r6, [next], 1; st.global.u32 [%d4], %r6;";
    let words = |order| {
        let options = Options { order, ..Options::default() };
        run(&module(before, body), 3, 64, &[0; 192], &options).words()
    };
    let forward = words(Order::Forward);
    assert_eq!(forward, numbers(192));
    let first = |words: &[u32]| words.iter().position(|&word| word == 0);
    assert_eq!(first(&words(Order::Reversed)), Some(160));
    let seeded = words(Order::Seeded(2));
    assert_eq!(seeded, words(Order::Seeded(2)));
    assert_ne!(seeded, forward);
    let mut sorted = seeded;
    sorted.sort_unstable();
    assert_eq!(sorted, forward);
}

#[test]
fn scopes_have_names_of_their_own() {
    let body = "mov.u32 %r6, 1;
            { .reg .b32 %r6; .reg.b32 t, u; mov.u32 %r6, 5; mov.b32 t, %r6; { .reg.b32 t; mov.u32 t, 9; } mov.u32 u, t;
              bra $in; mov.u32 u, 7; $in: st.global.u32 [%d1+4], u; }
            { bra $in; st.global.u32 [%d1], %r2; $in: st.global.u32 [%d1], %r6; }";
    assert_eq!(run(&module("", body), 1, 1, &[0; 2], &Options::default()).words(), [1, 5]);
    // Parameters of calls have one name in each call, whatever their types.
    let body = "{ .param .b64 param0; st.param.b64 [param0], %d4;
              { .param .b32 param0; st.param.b32 [param0], 5; ld.param.b32 %r6, [param0]; }
              ld.param.b64 %d6, [param0]; }
            { .param .align 4 .b8 param0[4]; st.param.b32 [param0], 6; ld.param.b32 %r7, [param0]; }
            add.u32 %r6, %r6, %r7;
            st.global.u32 [%d6], %r6;";
    assert_eq!(run(&module("", body), 1, 1, &[0], &Options::default()).words(), [11]);
}
