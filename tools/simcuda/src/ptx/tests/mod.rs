//! Kernels written by hand, for each mechanism one.

mod control;
mod faults;
mod spaces;
mod together;

use super::*;

/// A module of this body, whose kernel `k` takes two addresses and a count.
fn module(before: &str, body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n{before}
        .visible .entry k(.param .u64 out, .param .u64 in, .param .u32 n)
        {{
            .reg .pred %p<9>;
            .reg .b16 %h<9>;
            .reg .b32 %r<40>;
            .reg .f32 %f<20>;
            .reg .b64 %d<20>;
            ld.param.u64 %d1, [out];
            ld.param.u64 %d2, [in];
            ld.param.u32 %r1, [n];
            mov.u32 %r2, %tid.x;
            mov.u32 %r3, %ctaid.x;
            mov.u32 %r4, %ntid.x;
            mad.lo.s32 %r5, %r3, %r4, %r2;
            mul.wide.u32 %d3, %r5, 4;
            add.s64 %d4, %d1, %d3;
            add.s64 %d5, %d2, %d3;
            {body}
        }}"
    )
}

/// A run of kernel `k` over words.
struct Run {
    memory: Memory,
    out: u64,
    len: usize,
    result: Result<LaunchCounts, Fault>,
}

impl Run {
    fn words(&self) -> Vec<u32> {
        let bytes = self.memory.get(self.out, 4 * self.len).expect("allocated");
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("4 bytes"))).collect()
    }

    fn counts(&self) -> LaunchCounts {
        self.result.clone().expect("no fault")
    }

    fn fault(&self) -> Fault {
        self.result.clone().expect_err("a fault")
    }
}

fn run(text: &str, blocks: u32, threads: u32, input: &[u32], options: &Options) -> Run {
    run_with(
        text,
        Grid { blocks: [blocks, 1, 1], threads: [threads, 1, 1], dynamic_shared: 0 },
        input,
        options,
    )
}

fn run_with(text: &str, grid: Grid, input: &[u32], options: &Options) -> Run {
    let mut memory = Memory::new(1 << 20);
    let module = Module::load(text, &mut memory).expect("PTX");
    let kernel = module.kernel("k").expect("a kernel");
    let len = input.len();
    let [out, address] = [(); 2].map(|()| memory.allocate(4 * len as u64).expect("room"));
    for (place, word) in memory.get_mut(address, 4 * len).expect("allocated").chunks_exact_mut(4).zip(input) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    memory.get_mut(out, 4 * len).expect("allocated").fill(0xff);
    let mut parameters = out.to_le_bytes().to_vec();
    parameters.extend(address.to_le_bytes());
    parameters.extend((len as u32).to_le_bytes());
    let result = kernel.run(grid, &parameters, &mut memory, options);
    Run { memory, out, len, result }
}

fn numbers(len: u32) -> Vec<u32> {
    (0..len).collect()
}

#[test]
fn a_kernel_runs_and_counts() {
    let body = "setp.ge.u32 %p1, %r5, %r1;
            @%p1 bra $end;
            ld.global.u32 %r6, [%d5];
            add.s32 %r6, %r6, 7;
            st.global.u32 [%d4], %r6;
        $end:
            ret;";
    let ran = run(&module("", body), 3, 48, &numbers(130), &Options::default());
    assert_eq!(ran.words(), (7..137).collect::<Vec<_>>());
    let counts = ran.counts();
    assert_eq!((counts.bytes_read, counts.bytes_written, counts.barriers), (520, 520, 0));
    assert_eq!((counts.sectors_read, counts.sectors_written), (17, 17));
    // 10 instructions, the comparison and the branch in all; three where something is left; the end in all.
    assert_eq!(counts.thread_instructions, 144 * 12 - 130 + 130 * 3 + 144);
    assert_eq!(counts.warp_instructions, 6 * 16);
}
