//! Mistakes in a kernel are caught, each by the check of its name.

use crate::compiler;
use crate::host::{input, read, run, short, source, write};
use crate::kernels::{Launch, attention, recurrent, windows};
use crate::text::{GROUP_SIZE, Text};

/// A kernel with a mistake, and the check that catches it.
struct Fault {
    check: &'static str,
    body: &'static str,
}

/// Caught by the compiler.
const COMPILED: &[Fault] = &[
    Fault { check: "read-only", body: "STORE_F32(x, LOCAL_ID, 1.0f);" },
    Fault { check: "read-only", body: "STORE_U32(x, LOCAL_ID, 1u);" },
    Fault { check: "device-memory", body: "LOAD_U64(length, 0);" },
    Fault { check: "shared-memory", body: "of_group(x);" },
    Fault { check: "shared-memory", body: "SHARED(double, other, 4) of_group(other);" },
    Fault { check: "device-memory", body: "SHARED(float, parts, 4) of_tensor(parts);" },
    Fault { check: "device-memory", body: "SHARED(float, parts, 4) LOAD_F32(parts, 0);" },
    Fault { check: "device-memory", body: "SHARED(float, parts, 4) STORE_F32(parts, 0, 1.0f);" },
];

/// Caught when they run; `x` and `y` have an element for each thread.
const RUN: &[Fault] = &[
    Fault { check: "out-of-bounds", body: "STORE_F32(y, LOCAL_ID, LOAD_F32(x, LOCAL_ID + 1));" },
    Fault { check: "out-of-bounds", body: "STORE_F32(y, LOCAL_ID + GROUP_ID + 1, 1.0f);" },
    Fault { check: "out-of-bounds", body: "SHARED(float, parts, 4) parts[LOCAL_ID] = 1.0f;" },
    Fault { check: "missing-thread", body: "if (LOCAL_ID != 77) BARRIER;" },
    Fault { check: "missing-thread", body: "if (LOCAL_ID / 32 != 2) BARRIER;" },
    Fault { check: "missing-thread", body: "if (LOCAL_ID != 3) SHUFFLE_XOR(1.0f, 1);" },
    Fault { check: "different-places", body: "if (LOCAL_ID < 100) BARRIER; else BARRIER;" },
    Fault { check: "different-places", body: "if (LOCAL_ID < 96) BARRIER; else BARRIER;" },
    Fault { check: "different-places", body: "if (LOCAL_ID == 5) BARRIER; else SHUFFLE_XOR(1.0f, 1);" },
    Fault { check: "shuffle", body: "SHUFFLE_XOR(1.0f, 32);" },
    Fault {
        check: "not-written",
        body: "SHARED(float, parts, GROUP_SIZE) STORE_F32(y, LOCAL_ID, parts[LOCAL_ID]);",
    },
    Fault {
        check: "race",
        body: "SHARED(float, parts, GROUP_SIZE) parts[LOCAL_ID] = 1.0f;\n\
               if (LOCAL_ID > 0) STORE_F32(y, LOCAL_ID, parts[LOCAL_ID - 1]);",
    },
    Fault {
        check: "race",
        body: "SHARED(float, parts, GROUP_SIZE) parts[LOCAL_ID] = 1.0f; BARRIER;\n\
               STORE_F32(y, LOCAL_ID, parts[LOCAL_ID ^ 1]); parts[LOCAL_ID] = 2.0f;",
    },
    Fault { check: "race", body: "SHARED(float, parts, 4) parts[LOCAL_ID % 4] = 1.0f;" },
    Fault { check: "order", body: "STORE_F32(y, 0, (float)LOCAL_ID);" },
    Fault {
        check: "order",
        body: "STORE_F32(y, LOCAL_ID, (float)LOCAL_ID); STORE_F32(y, LOCAL_ID, LOAD_F32(y, LOCAL_ID / 2));",
    },
    // A number that is no address.
    Fault { check: "out-of-bounds", body: "LOAD_U64((ulong)length, 0);" },
    Fault { check: "missing-thread", body: "if (LOCAL_ID > 200) return; SHUFFLE_XOR(1.0f, 1);" },
];

/// A kernel of a source, a part of its text, what stands there instead, and the check that catches it.
struct Change {
    of: fn() -> Launch,
    part: &'static str,
    other: &'static str,
    check: &'static str,
}

const CHANGES: &[Change] = &[
    Change {
        of: windows::small_im2col,
        part: "index < n ? (uint)index : NOWHERE",
        other: "(uint)index",
        check: "out-of-bounds",
    },
    Change {
        of: windows::small_im2col,
        part: "i < end && i < length",
        other: "i < end",
        check: "out-of-bounds",
    },
    Change {
        of: windows::small_pooling,
        part: "position < positions##d && ",
        other: "",
        check: "out-of-bounds",
    },
    Change {
        of: attention::small,
        part: "row.index < rows ? columns : 0",
        other: "columns",
        check: "out-of-bounds",
    },
    Change {
        of: attention::small,
        part: "#define QUERY (row.index % queries)",
        other: "#define QUERY (row.index)",
        check: "out-of-bounds",
    },
    Change {
        of: attention::small,
        part: "largest = LARGEST(largest);",
        other: "if (row.length > 0) largest = LARGEST(largest);",
        check: "different-places",
    },
    // The carry of two steps before, which the second step has not.
    Change {
        of: recurrent::small,
        part: "OF_STATE(state, step - 1)",
        other: "OF_STATE(state, step - 2)",
        check: "out-of-bounds",
    },
    // The carry of the thread's neighbour, which the same step writes.
    Change {
        of: recurrent::small,
        part: "OF_STATE(state, step - 1)",
        other: "OF_STATE(state, step) - i % 2",
        check: "order",
    },
];

/// Without a mistake: each element is that of the thread beside it.
const RIGHT: &str = "SHARED(float, parts, GROUP_SIZE) parts[LOCAL_ID] = LOAD_F32(x, LOCAL_ID); BARRIER;\n\
                     STORE_F32(y, LOCAL_ID, of_group(parts) + parts[LOCAL_ID ^ 1] - SHUFFLE_XOR(of_tensor(x), 3));";

const KERNEL: &str = "
INLINE float of_group(SHARED_POINTER(float, parts)) { return parts[0]; }
INLINE float of_tensor(MEMORY x) { return LOAD_F32(x, 0); }
KERNEL(fault, READ(0, x), WRITE(1, y), VALUE(2, uint, length)) {
    BODY
}
";

fn text(body: &str) -> Text {
    Text::new(&[&KERNEL.replace("BODY", body)], &[("GROUP_SIZE", GROUP_SIZE)])
}

#[test]
fn mistakes_that_do_not_compile() {
    if !compiler::is_there() {
        return;
    }
    for Fault { check, body } in COMPILED {
        let said = compiler::program("faults/compiled", &source(&[text(body)])).expect_err(body);
        assert!(said.contains(&format!("CHECK {check}:")), "not caught by `{check}`: {body}\n{said}");
    }
}

#[test]
fn mistakes_that_do_not_run() {
    if !compiler::is_there() {
        return;
    }
    let texts: Vec<_> = [RIGHT].into_iter().chain(RUN.iter().map(|fault| fault.body)).map(text).collect();
    let program = compiler::program("faults/run", &source(&texts)).unwrap_or_else(|said| panic!("{said}"));
    let x: Vec<f32> = (0..GROUP_SIZE).map(|i| i as f32).collect();
    let parameters = [read(&x), write::<f32>(GROUP_SIZE), short(GROUP_SIZE)];
    let run = |kernel| run(&program, &input(kernel, 1, &parameters));

    let found = run(0).unwrap_or_else(|said| panic!("{said}"));
    let y = found[4 * GROUP_SIZE..].chunks_exact(4).map(|y| f32::from_le_bytes(y.try_into().unwrap()));
    let expected: Vec<f32> = (0..GROUP_SIZE).map(|i| (i ^ 1) as f32).collect();
    assert_eq!(y.collect::<Vec<_>>(), expected);

    for (number, Fault { check, body }) in RUN.iter().enumerate() {
        let said = run(number + 1).expect_err(body);
        assert!(said.contains(&format!("CHECK {check}:")), "not caught by `{check}`: {body}\n{said}");
    }
}

#[test]
fn mistakes_in_kernels_of_the_sources() {
    if !compiler::is_there() {
        return;
    }
    let launches: Vec<_> = CHANGES.iter().map(|change| (change.of)()).collect();
    let changed = CHANGES.iter().zip(&launches);
    let changed = changed.map(|(change, launch)| launch.text.with(change.part, change.other));
    let texts: Vec<_> = launches.iter().map(|launch| launch.text.clone()).chain(changed).collect();
    let program =
        compiler::program("faults/sources", &source(&texts)).unwrap_or_else(|said| panic!("{said}"));
    let kernels: Vec<_> = texts.iter().map(Text::kernels).collect();
    let run = |text: usize, launch: &Launch| {
        let before: usize = kernels[..text].iter().map(Vec::len).sum();
        let kernel = kernels[text].iter().position(|kernel| kernel == launch.name).unwrap();
        run(&program, &input(before + kernel, launch.groups, &launch.parameters))
    };
    for (number, (Change { part, check, .. }, launch)) in CHANGES.iter().zip(&launches).enumerate() {
        run(number, launch).unwrap_or_else(|said| panic!("{}: {said}", launch.name));
        let said = run(number + launches.len(), launch).expect_err(part);
        assert!(said.contains(&format!("CHECK {check}:")), "not caught by `{check}`: {part}\n{said}");
    }
}
