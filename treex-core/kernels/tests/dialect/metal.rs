//! The Metal form of each kernel that has one, parsed by the system's compiler with address spaces that are types.

use std::fmt::Write as _;
use std::process::Command;

use treex_kernels::dialect::{COLUMNS, EACH, ELEMENT, METAL, ROWS, THREEFRY};
use treex_kernels::elementwise::Elementwise;
use treex_kernels::expression::Source;
use treex_kernels::norm::{STATISTICS, group_norm, layer_norm};
use treex_kernels::{
    add, attention, cross_entropy, dropout, elementwise, embedding, im2col, pooling, recurrent, softmax,
    sum_axis0, window,
};

use crate::compiler;
use crate::kernels::elements::{FUNCTIONS, printed};
use crate::kernels::recurrent::{CELLS, of_counts};
use crate::layout::Rows;
use crate::text::{GROUP_SIZE, Text};

/// The texts behind those of rows.
const OF_ROWS: &[&[&str]] = &[
    &[softmax::DIALECT],
    &[cross_entropy::DIALECT],
    &[STATISTICS, layer_norm::DIALECT],
    &[STATISTICS, group_norm::TOTALS],
    &[EACH, embedding::DIALECT],
    &[THREEFRY, attention::DIALECT],
];

/// The texts behind those of columns.
const OF_PIECES: &[&[&str]] = &[&[sum_axis0::DIALECT], &[group_norm::DIALECT]];

/// The texts behind those of all elements.
const OF_ELEMENTS: &[&[&str]] = &[
    &[add::DIALECT],
    &[THREEFRY, dropout::DIALECT],
    &[window::DIALECT, im2col::DIALECT],
    &[window::DIALECT, pooling::DIALECT],
];

/// What texts leave open beside sizes.
const FLAGS: [&str; 19] = [
    "IS_LOG",
    "IS_LONG",
    "IS_CENTERED",
    "IS_FAST",
    "HAS_SCALE",
    "HAS_BIAS",
    "HAS_TERMS",
    "IS_OF_ROWS",
    "IS_PARTIAL",
    "IS_ROUNDED",
    "IS_BACKWARD",
    "HAS_MASK",
    "IS_CAUSAL",
    "HAS_DROPOUT",
    "IS_SHARED",
    "COUNTS_PADDING",
    "HAS_INPUT_BIAS",
    "HAS_CARRY_BIAS",
    "HAS_PRODUCT",
];

/// Each text for each element type that Metal has, with all flags and with none.
pub(crate) fn texts() -> Vec<Text> {
    let mut all = Vec::new();
    for element in ["F32", "F16", "BF16"] {
        for flag in [0, 1] {
            let flags = FLAGS.map(|name| (name, flag));
            let mut add = |first: &[&str], texts: &[&str], defines: &[(&str, usize)]| {
                all.push(Text::of_element(element, &[first, texts].concat(), &[&flags, defines].concat()));
            };
            for texts in OF_ROWS {
                for columns in [3, 33, 1025, 8200] {
                    add(&[ELEMENT, ROWS], texts, &Rows::new(9, columns).defines([]));
                }
            }
            for texts in OF_PIECES {
                [4, 32].iter().for_each(|columns| add(&[ELEMENT, COLUMNS], texts, &[("COLUMNS", *columns)]));
            }
            for texts in OF_ELEMENTS {
                [0, 2].iter().for_each(|is| add(&[ELEMENT, EACH], texts, &[("REDUCTION", *is)]));
            }
            for (cell, _) in CELLS {
                let source = Source::of(&if flag == 0 { cell.traced() } else { cell.traced_gradient() });
                let defines = [&of_counts(cell.counts())[..], &[("HAS_ALL", 3 * flag)]].concat();
                add(&[ELEMENT, EACH], &[&printed(recurrent::DIALECT, &source)], &defines);
            }
            for function in FUNCTIONS {
                let traced = if flag == 0 { Elementwise::traced } else { Elementwise::traced_gradient };
                add(
                    &[ELEMENT, EACH],
                    &[&printed(elementwise::DIALECT, &Source::of(&[traced(function)]))],
                    &[],
                );
            }
        }
    }
    all
}

/// What the compiler says of texts behind the header.
fn parsed(name: &str, texts: &[Text], arguments: &[&str]) -> Result<(), String> {
    let mut all = METAL.to_owned();
    for (number, text) in texts.iter().enumerate() {
        all += &text.within(&format!("text{number}"));
    }
    let source = compiler::folder(name).join("metal.cpp");
    std::fs::write(&source, all).unwrap();
    compiler::said(compiler().arg("-fsyntax-only").args(arguments).arg(source))
}

/// With the shim in the place of Metal's own header.
fn compiler() -> Command {
    let mut compiler = Command::new("c++");
    let shim = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialect/metal");
    compiler.args(["-std=c++14", "-Wno-attributes", "-Wno-unknown-pragmas", "-I", shim]);
    compiler
}

#[test]
fn metal_forms_are_parsed() {
    if compiler::is_there() {
        // With address spaces that are types, and with those that Metal's compiler sees.
        for arguments in [&[][..], &["-DSPELLED_OUT"]] {
            parsed("metal/forms", &texts(), arguments).unwrap_or_else(|said| panic!("{said}"));
        }
    }
}

/// What a compiler for Metal would refuse, the shim refuses too.
#[test]
fn mistakes_in_metal_forms() {
    if !compiler::is_there() {
        return;
    }
    for (body, expected) in [
        ("STORE_F32(y, LOCAL_ID, of_tensor(x) + of_tensor(y) + length);", ""),
        ("SHARED(float, parts, 4) parts[0] = of_group(parts);", ""),
        ("STORE_F32(x, LOCAL_ID, 1.0f);", "CHECK read-only:"),
        ("SHARED(float, parts, 4) of_tensor(parts);", "could not convert|no matching function"),
        ("SHARED(float, parts, 4) LOAD_F32(parts, 0);", "no matching function|invalid cast"),
        ("of_group(x);", "could not convert|no matching function"),
        ("length = 3;", "no match for|no viable"),
        ("double z = 1;", "poisoned"),
        ("uint thread = 1;", "poisoned"),
        ("uint half = 1;", "qualified|nested"),
        ("erf(1.0f);", "erf"),
    ] {
        let kernel = format!(
            "INLINE float of_group(SHARED_POINTER(float, parts)) {{ return parts[0]; }}\n\
             INLINE float of_tensor(MEMORY x) {{ return LOAD_F32(x, 0); }}\n\
             KERNEL(fault, READ(0, x), WRITE(1, y), VALUE(2, uint, length)) {{ {body} }}\n"
        );
        let text = Text::new(&[&kernel], &[("GROUP_SIZE", GROUP_SIZE)]);
        match parsed("metal/fault", &[text], &[]) {
            Ok(()) => assert!(expected.is_empty(), "not caught: {body}"),
            Err(said) => {
                let is_known = expected.split('|').any(|part| !part.is_empty() && said.contains(part));
                assert!(is_known, "{body}: {said}");
            }
        }
    }
}

/// The functions that Metal lacks, run on this machine with the standard library's `exp` and `log`.
#[test]
fn functions_that_metal_lacks() {
    if !compiler::is_there() {
        return;
    }
    let mut checks = String::new();
    let doubles =
        [0., -1.5, 0.1, 1e-40, 4e-46, 1e-46, -7e-46, 1e300, 3.402_823_5e38, f64::INFINITY, 1. + 1e-9];
    for number in doubles.into_iter().chain([1. + 2f64.powi(-24), 1. + 3. * 2f64.powi(-24), 2f64.powi(-150)])
    {
        let (bits, expected) = (number.to_bits(), (number as f32).to_bits());
        // Writing into memory does not fail.
        let _ =
            writeln!(checks, "    if (as_type<uint>(bits_to_double({bits:#x}ul)) != {expected}u) return 1;");
    }
    for x in [-30f32, -1., -0.5, -1e-3, -1e-8, 0., 1e-10, 1e-4, 0.3, 2., 80., f32::INFINITY] {
        let expected =
            [("expm1", x, f64::from(x).exp_m1()), ("log1p", x.max(-1.), f64::from(x.max(-1.)).ln_1p())];
        for (function, x, expected) in expected {
            let [x, expected] = [x, expected as f32].map(|x| format!("bits_to_float({}u)", x.to_bits()));
            let _ = writeln!(checks, "    if (!near({function}({x}), {expected})) return 2;");
        }
    }
    let near = "static bool near(float a, float b) { return a == b || fabs(a - b) <= 4e-7f * fabs(b); }\n";
    let folder = compiler::folder("metal/functions");
    let (source, program) = (folder.join("functions.cpp"), folder.join("functions"));
    std::fs::write(&source, format!("{METAL}{near}int main() {{\n{checks}    return 0;\n}}\n")).unwrap();
    // What is declared only is not linked where it is not used.
    compiler::said(compiler().args(["-O1", "-ffp-contract=off", "-o"]).arg(&program).arg(source))
        .unwrap_or_else(|said| panic!("{said}"));
    let status = Command::new(program).status().unwrap();
    assert!(status.success(), "{status}: 1 for numbers of 64 bits, 2 for functions");
}
