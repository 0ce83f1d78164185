//! Memories: variables, windows of generic addresses, vectors, counts.

use super::*;

#[test]
fn variables_start_as_they_say() {
    let before = ".global .align 4 .u32 table[4] = {1, 2, 3};
        .const .align 8 .f64 one = 0d3FF0000000000000;
        .global .align 8 .u64 pointer = table+4;
        .global .align 8 .u64 other = generic(table);
        .global .align 4 .f32 both[2][2] = {{0f3F800000, 0f40000000}, {0f40400000, 1.5}};
        .visible .global .align 4 .b8 bytes[4];";
    let body = "ld.global.u64 %d6, [pointer];
            ld.global.u32 %r6, [%d6+4];
            ld.global.u64 %d7, [other];
            ld.u32 %r7, [%d7];
            ld.const.f64 %d8, [one];
            mov.u64 %d10, both;
            ld.global.f32 %f1, [%d10+12];
            ld.global.u32 %r8, [bytes];
            st.global.u32 [%d1], %r6;
            st.global.u32 [%d1+4], %r7;
            st.global.f64 [%d1+8], %d8;
            st.global.f32 [%d1+16], %f1;
            st.global.u32 [%d1+20], %r8;";
    let ran = run(&module(before, body), 1, 1, &[0; 6], &Options::default());
    assert_eq!(ran.words(), [3, 1, 0, 0x3ff0_0000, 0x3fc0_0000, 0]);
    let mut memory = Memory::new(1000);
    let module = Module::load(&module(before, ""), &mut memory).expect("PTX");
    let (address, len) = module.variable("bytes").expect("a variable");
    assert_eq!((len, memory.get(address, 4)), (4, Ok(&[0; 4][..])));
    assert_eq!(module.variable("k"), None);
}

#[test]
fn what_a_kernel_declares_is_told() {
    let before = ".shared .align 4 .b8 unused[100]; .shared .align 16 .b8 used[20];
        .extern .shared .align 8 .b8 dynamic[];";
    let text = module(before, ".shared .b32 own; mov.u32 %r6, used; mov.u32 %r7, dynamic;");
    let mut memory = Memory::new(1000);
    let kernel = Module::load(&text, &mut memory).expect("PTX").kernel("k").expect("a kernel");
    assert_eq!((kernel.static_shared, kernel.max_threads), (24, 1024));
    let of = |offset, len| Parameter { offset, len };
    assert_eq!(kernel.parameters, [of(0, 8), of(8, 8), of(16, 4)]);
    let text = ".version 8.0 .target sm_90\n.entry e(.param .u8 a, .param .align 8 .b8 b[12], .param .u16 c,
        .param .u64 .ptr .global .align 16 d) .maxntid 32, 4, 1 .minnctapersm 2 { ret; }";
    let text = text.replace(" .target", "\n.target");
    let kernel = Module::load(&text, &mut memory).expect("PTX").kernel("e").expect("a kernel");
    assert_eq!(kernel.parameters, [of(0, 1), of(8, 12), of(20, 2), of(24, 8)]);
    assert_eq!((kernel.max_threads, kernel.required_threads), (128, None));
    let text = text.replace(".maxntid 32, 4, 1 .minnctapersm 2", ".reqntid 32, 2");
    let kernel = Module::load(&text, &mut memory).expect("PTX").kernel("e").expect("a kernel");
    assert_eq!((kernel.max_threads, kernel.required_threads), (64, Some([32, 2, 1])));
}

#[test]
fn generic_addresses_lead_to_their_memories() {
    let before = ".extern .shared .align 8 .b8 dynamic[];";
    let body = ".local .align 8 .b8 own[8];
            shl.b32 %r6, %r2, 2;
            cvt.u64.u32 %d6, %r6;
            mov.u64 %d7, dynamic;
            add.u64 %d8, %d7, %d6;
            cvta.shared.u64 %d9, %d8;
            st.u32 [%d9], %r2;
            mov.u64 %d10, own;
            cvta.local.u64 %d11, %d10;
            add.u32 %r7, %r2, 100;
            st.u32 [%d11+4], %r7;
            // Odd lanes read local memory, even lanes shared memory, by one instruction.
            and.b32 %r8, %r2, 1;
            setp.eq.u32 %p1, %r8, 0;
            add.u64 %d12, %d11, 4;
            selp.b64 %d13, %d9, %d12, %p1;
            isspacep.shared %p2, %d13;
            isspacep.global %p3, %d4;
            isspacep.local %p4, %d13;
            ld.u32 %r9, [%d13];
            @%p2 add.u32 %r9, %r9, 1000;
            @%p4 add.u32 %r9, %r9, 2000;
            @%p3 add.u32 %r9, %r9, 5000;
            cvta.to.shared.u64 %d14, %d9;
            cvt.u32.u64 %r10, %d14;
            ld.shared.u32 %r11, [%r10];
            setp.ne.u32 %p5, %r11, %r2;
            @%p5 trap;
            mov.b64 %d15, n;
            cvta.param.u64 %d16, %d15;
            ld.u32 %r12, [%d16];
            setp.ne.u32 %p6, %r12, 4;
            @%p6 trap;
            cvta.to.global.u64 %d4, %d4;
            st.global.u32 [%d4], %r9;";
    let grid = Grid { blocks: [1; 3], threads: [4, 1, 1], dynamic_shared: 16 };
    let ran = run_with(&module(before, body), grid, &[0; 4], &Options::default());
    assert_eq!(ran.words(), [6000, 7101, 6002, 7103]);
}

#[test]
fn vectors_and_narrow_values() {
    let body = "ld.global.v4.u32 {%r6, %r7, _, %r8}, [%d2];
            ld.global.s8 %r9, [%d2+3];
            ld.global.u8 %h1, [%d2+3];
            ld.global.s16 %r10, [%d2+2];
            cvt.u32.u16 %r11, %h1;
            mov.b32 %r12, {%h1, %h1};
            mov.b64 %d6, {%r6, %r7};
            mov.b64 {%r13, _}, %d6;
            st.global.v2.u32 [%d1], {%r8, %r9};
            st.global.v2.u32 [%d1+8], {%r10, %r11};
            st.global.v2.b32 [%d1+16], {%r12, %r13};
            st.global.u8 [%d1+16], 7;";
    let input = [0xf001_0203, 5, 6, 7, 0, 0];
    let ran = run(&module("", body), 1, 1, &input, &Options::default());
    assert_eq!(ran.words(), [7, 0xffff_fff0, 0xffff_f001, 0xf0, 0x00f0_0007, 0xf001_0203]);
    assert_eq!((ran.counts().bytes_read, ran.counts().bytes_written), (16 + 1 + 1 + 2, 25));
}

#[test]
fn banks_and_sectors_are_counted() {
    let body = ".shared .align 4 .b8 s[4096];
            mov.u32 %r7, s;
            shl.b32 %r8, %r2, 7;
            add.u32 %r9, %r7, %r8;
            st.shared.u32 [%r9], %r2;
            ld.shared.u32 %r10, [%r9];
            mul.wide.u32 %d6, %r2, 32;
            add.u64 %d7, %d1, %d6;
            st.global.u32 [%d7], %r10;";
    let counts = run(&module("", body), 1, 32, &[0; 256], &Options::default()).counts();
    assert_eq!((counts.bank_conflicts, counts.sectors_written, counts.bytes_written), (62, 32, 128));
}

#[test]
fn grids_have_three_axes() {
    let body = "mov.u32 %r6, %tid.y; mov.u32 %r7, %tid.z; mov.u32 %r8, %ctaid.y; mov.u32 %r9, %nctaid.z;
            mov.u32 %r10, %ctaid.z; mov.u32 %r11, %ntid.y;
            mad.lo.u32 %r12, %r7, %r11, %r6;
            mad.lo.u32 %r12, %r12, %r4, %r2;
            mad.lo.u32 %r13, %r10, 2, %r8;
            mad.lo.u32 %r14, %r13, 12, %r12;
            mul.wide.u32 %d6, %r14, 4;
            add.u64 %d6, %d6, %d1;
            mad.lo.u32 %r14, %r9, 100, %r14;
            st.global.u32 [%d6], %r14;";
    let grid = Grid { blocks: [1, 2, 3], threads: [2, 3, 2], dynamic_shared: 0 };
    let ran = run_with(&module("", body), grid, &[0; 72], &Options::default());
    assert_eq!(ran.words(), (300..372).collect::<Vec<_>>());
}
