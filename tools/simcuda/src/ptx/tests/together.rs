//! What lanes and threads do together: shuffles, votes, barriers, atomic operations.

use super::*;
use crate::fault::FaultKind;

#[test]
fn sums_by_shuffles() {
    let body = "ld.global.u32 %r6, [%d5];
            shfl.sync.bfly.b32 %r7|%p1, %r6, 16, 31, -1;
            add.u32 %r6, %r6, %r7;
            shfl.sync.bfly.b32 %r7, %r6, 8, 31, 0xffffffff;
            add.u32 %r6, %r6, %r7;
            shfl.sync.bfly.b32 %r7, %r6, 4, 31, -1;
            add.u32 %r6, %r6, %r7;
            shfl.sync.bfly.b32 %r7, %r6, 2, 31, -1;
            add.u32 %r6, %r6, %r7;
            shfl.sync.bfly.b32 %r7, %r6, 1, 31, -1;
            add.u32 %r6, %r6, %r7;
            st.global.u32 [%d4], %r6;";
    let words = run(&module("", body), 1, 64, &numbers(64), &Options::default()).words();
    assert!(
        words[..32].iter().all(|&word| word == 496) && words[32..].iter().all(|&word| word == 496 + 32 * 32)
    );
}

#[test]
fn shuffles_read_by_the_manual() {
    for (form, expected) in [
        (
            "up.b32 %r7|%p1, %r6, 1, 0",
            (0..32).map(|i| if i == 0 { (0, 0) } else { (i - 1, 1) }).collect::<Vec<_>>(),
        ),
        ("down.b32 %r7|%p1, %r6, 2, 31", (0..32).map(|i| if i < 30 { (i + 2, 1) } else { (i, 0) }).collect()),
        ("idx.b32 %r7|%p1, %r6, 3, 31", (0..32).map(|_| (3, 1)).collect()),
        // Parts of 8 lanes: the mask of the part is 0x18.
        ("idx.b32 %r7|%p1, %r6, 3, 0x181f", (0..32).map(|i| (i / 8 * 8 + 3, 1)).collect()),
        (
            "down.b32 %r7|%p1, %r6, 7, 0x1807",
            (0..32).map(|i| if i % 8 < 1 { (i + 7, 1) } else { (i, 0) }).collect(),
        ),
        (
            "bfly.b32 %r7|%p1, %r6, 31, 15",
            (0..32).map(|i| if i < 16 { (i, 0) } else { (31 - i, 1) }).collect(),
        ),
    ] {
        let body = format!(
            "mov.u32 %r6, %laneid;
            shfl.sync.{form}, -1;
            selp.u32 %r8, 100, 0, %p1;
            add.u32 %r8, %r8, %r7;
            st.global.u32 [%d4], %r8;"
        );
        let words = run(&module("", &body), 1, 32, &[0; 32], &Options::default()).words();
        let expected: Vec<u32> = expected.into_iter().map(|(from, inside)| from + 100 * inside).collect();
        assert_eq!(words, expected, "{form}");
    }
}

#[test]
fn lanes_that_come_late_are_waited_for() {
    // Odd lanes take a longer way to the shuffle, which they pass before the even ones would.
    let body = "and.b32 %r6, %r2, 1;
            setp.eq.u32 %p1, %r6, 0;
            mov.u32 %r7, 1;
            @%p1 bra $meet;
            mul.lo.u32 %r7, %r2, 10;
            bra $later;
        $meet:
            shfl.sync.idx.b32 %r8, %r7, 1, 31, -1;
            st.global.u32 [%d4], %r8;
            ret;
        $later:
            add.u32 %r7, %r7, 1;
            bra $meet;";
    assert_eq!(run(&module("", body), 1, 32, &[0; 32], &Options::default()).words(), [11; 32]);
}

#[test]
fn parts_of_a_warp_meet_by_their_masks() {
    let body = "setp.lt.u32 %p1, %r2, 16;
            selp.b32 %r6, 0xffff, 0xffff0000, %p1;
            match.any.sync.b32 %r7, %r2, %r6;
            vote.sync.ballot.b32 %r8, %p1, %r6;
            redux.sync.add.s32 %r9, %r2, %r6;
            sub.u32 %r10, %r7, %r8;
            add.u32 %r10, %r10, %r9;
            st.global.u32 [%d4], %r10;";
    let words = run(&module("", body), 1, 32, &[0; 32], &Options::default()).words();
    let of = |i: u32| {
        let (ballot, sum) = if i < 16 { (0xffff, 120) } else { (0, 376) };
        (1u32 << i).wrapping_sub(ballot).wrapping_add(sum)
    };
    assert_eq!(words, (0..32).map(of).collect::<Vec<_>>());
}

#[test]
fn votes_and_matches() {
    let body = "setp.lt.u32 %p1, %r2, 8;
            vote.sync.all.pred %p2, %p1, -1;
            vote.sync.any.pred %p3, %p1, -1;
            vote.sync.uni.pred %p4, !%p1, -1;
            vote.sync.ballot.b32 %r6, !%p1, -1;
            selp.u32 %r7, 1, 0, %p2;
            @%p3 add.u32 %r7, %r7, 2;
            @%p4 add.u32 %r7, %r7, 4;
            shr.u32 %r8, %r2, 4;
            match.any.sync.b32 %r9, %r8, -1;
            match.all.sync.b32 %r10|%p5, %r8, -1;
            match.all.sync.b32 %r11|%p6, %r4, -1;
            @%p5 add.u32 %r7, %r7, 8;
            @%p6 add.u32 %r7, %r7, 16;
            xor.b32 %r6, %r6, %r9;
            xor.b32 %r6, %r6, %r10;
            xor.b32 %r6, %r6, %r11;
            xor.b32 %r6, %r6, %r7;
            st.global.u32 [%d4], %r6;";
    let words = run(&module("", body), 1, 32, &[0; 32], &Options::default()).words();
    let of = |i: u32| 0xffff_ff00 ^ if i < 16 { 0xffff } else { 0xffff_0000 } ^ 0xffff_ffff ^ (2 + 16);
    assert_eq!(words, (0..32).map(of).collect::<Vec<_>>());
}

#[test]
fn a_warp_that_is_not_full_meets_without_the_rest() {
    let body = "shfl.sync.idx.b32 %r6, %r2, 4, 31, -1; bar.warp.sync 0xffffffff; st.global.u32 [%d4], %r6;";
    assert_eq!(run(&module("", body), 1, 7, &[0; 7], &Options::default()).words(), [4; 7]);
}

#[test]
fn the_barrier_of_a_warp_is_met_on_any_way() {
    let body = "setp.lt.u32 %p1, %r2, 9; @%p1 bra $a; bar.warp.sync -1; bra $end; $a: bar.warp.sync -1;
        $end: activemask.b32 %r6; st.global.u32 [%d4], %r6;";
    assert_eq!(run(&module("", body), 1, 32, &[0; 32], &Options::default()).words(), [u32::MAX; 32]);
    let other = body.replacen("bar.warp.sync -1", "bar.warp.sync 0xfffffe00", 1);
    let fault = run(&module("", &other), 1, 32, &[0; 32], &Options::default()).fault();
    assert_eq!(fault.kind, FaultKind::Deadlock);
    let words = "lane 0 waits for the lanes 0xffffffff that it names, and lane 9 never comes: it has exited";
    assert_eq!(fault.message, words);
}

/// Each thread gives its word to shared memory and takes its neighbour's.
const NEIGHBOUR: &str = ".shared .align 4 .b8 s[512];
            ld.global.u32 %r6, [%d5];
            mov.u32 %r7, s;
            shl.b32 %r8, %r2, 2;
            add.u32 %r9, %r7, %r8;
            st.shared.u32 [%r9], %r6;
            bar.sync 0;
            xor.b32 %r10, %r8, 4;
            add.u32 %r11, %r7, %r10;
            ld.shared.u32 %r12, [%r11];
            st.global.u32 [%d4], %r12;";

#[test]
fn barriers_of_a_block() {
    let ran = run(&module("", NEIGHBOUR), 2, 128, &numbers(256), &Options::default());
    assert_eq!(ran.words(), numbers(256).iter().map(|i| i ^ 1).collect::<Vec<_>>());
    assert_eq!((ran.counts().barriers, ran.counts().bank_conflicts), (2, 0));
    // Without it, what is read may not be written yet, by a neighbour in another warp as well.
    for (by, threads) in [("4", 32), ("128", 64)] {
        let without = NEIGHBOUR.replace("bar.sync 0;", "").replace("%r8, 4;", &format!("%r8, {by};"));
        let written = Options { uninitialized_shared: false, ..Options::default() };
        let fault = run(&module("", &without), 1, threads, &numbers(64), &written).fault();
        assert_eq!(fault.kind, FaultKind::Race, "{fault}");
        // Of two warps the second comes to its write after the first has read.
        let at = if threads == 32 { "`ld.shared.u32 %r12, [%r11];`" } else { "`st.shared.u32 [%r9], %r6;`" };
        assert!(fault.place.ends_with(at), "{fault}");
    }
    let ordered = NEIGHBOUR.replace("bar.sync 0", "bar.warp.sync -1");
    assert_eq!(run(&module("", &ordered), 1, 32, &numbers(32), &Options::default()).words()[..2], [1, 0]);
}

#[test]
fn threads_that_exit_are_not_waited_for_at_a_barrier() {
    let body = "setp.ge.u32 %p1, %r2, 40;
            @%p1 exit;
            barrier.sync 3;
            st.global.u32 [%d4], 1;";
    let ran = run(&module("", body), 1, 96, &[0; 96], &Options::default());
    assert_eq!(ran.words().iter().filter(|&&word| word == 1).count(), 40);
}

#[test]
fn barriers_reduce_and_have_numbers() {
    let body = "setp.lt.u32 %p1, %r2, 70;
            bar.red.popc.u32 %r6, 1, %p1;
            bar.red.and.pred %p2, 2, !%p1;
            bar.red.or.pred %p3, 2, !%p1;
            selp.u32 %r7, 1000, 0, %p2;
            @%p3 add.u32 %r7, %r7, 100;
            add.u32 %r7, %r7, %r6;
            setp.lt.u32 %p4, %r2, 32;
            @%p4 bra $gives;
            bar.sync 5, 96;
            bra $end;
        $gives:
            bar.arrive 5, 96;
        $end:
            st.global.u32 [%d4], %r7;";
    let ran = run(&module("", body), 1, 96, &[0; 96], &Options::default());
    assert_eq!(ran.words(), [170; 96]);
    assert_eq!(ran.counts().barriers, 4);
}

#[test]
fn atomic_operations_count_and_give_the_old_value() {
    let body = ".shared .align 8 .b8 s[16];
            setp.ne.u32 %p1, %r2, 0;
            @%p1 bra $wait;
            st.shared.v2.u32 [s], {0, 0x3f800000};
        $wait:
            bar.sync 0;
            atom.shared.add.u32 %r6, [s], 2;
            mov.f32 %f1, 0f3F000000;
            red.shared.add.f32 [s+4], %f1;
            red.global.max.s32 [%d1], %r6;
            bar.sync 0;
            ld.shared.v2.b32 {%r7, %r8}, [s];
            setp.ne.u32 %p2, %r7, 128;
            @%p2 trap;
            cvt.rzi.u32.f32 %r9, %f2;
            mov.b32 %f2, %r8;
            cvt.rzi.u32.f32 %r9, %f2;
            @%p1 st.global.u32 [%d4], %r9;";
    let mut input = vec![0; 64];
    input[0] = 1;
    let ran = run(&module("", body), 1, 64, &input, &Options::default());
    // Memory starts as -1; the largest of the old values is 126.
    assert_eq!((ran.words()[0], &ran.words()[1..]), (126, &[33; 63][..]));
    assert_eq!(ran.counts().atomics, 64);
}

#[test]
fn clocks_count() {
    let body = "mov.u32 %r6, %clock; mov.u32 %r7, 1; mov.u64 %d6, %clock64; cvt.u32.u64 %r8, %d6; sub.u32 %r8, %r8, %r6;
            st.global.u32 [%d4], %r8;";
    assert_eq!(run(&module("", body), 1, 1, &[0], &Options::default()).words(), [2]);
}
