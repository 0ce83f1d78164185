//! The text of a kernel that has a case for each program.

use std::fmt::Write;

use candle_core::DType;
use treex_kernels::dialect::SWEEP;

use super::part::Program;

/// Threads of a group.
pub(super) const GROUP_SIZE: usize = 256;

/// Elements of a thread, which it loads before it writes one.
pub(super) const EACH: usize = 4;

/// The types of a part's tensors, and its program.
#[derive(Clone, Debug)]
pub(super) struct Case<'c> {
    pub(super) program: &'c Program,
    pub(super) inputs: Vec<DType>,
    pub(super) leaves: Vec<DType>,
    pub(super) has_output: bool,
}

/// The dialect's name of an element type.
pub(super) fn name_of(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        _ => return None,
    })
}

impl Case<'_> {
    /// The tensors of a part.
    pub(super) fn slots(&self) -> usize {
        self.inputs.len() + self.leaves.len() + usize::from(self.has_output)
    }

    /// The statements of the case: the constants, the loads of all elements of a thread, then the function of each.
    pub(super) fn text(&self) -> String {
        let Program { is_wide, source } = self.program;
        let (real, bits, output) = if *is_wide {
            ("double", "bits_to_double(", "F64")
        } else {
            ("float", "bits_to_float((uint)", "F32")
        };
        let mut text = format!("typedef {real} real;\n");
        // Writing into memory does not fail.
        for number in 0..source.constants.len() {
            let _ = writeln!(text, "const real c{number} = {bits}table.words[constants + {number}]);");
        }
        let read: Vec<_> =
            self.inputs.iter().chain(&self.leaves).map(|dtype| name_of(*dtype).unwrap_or_default()).collect();
        let mut element = String::new();
        let _ = writeln!(
            text,
            "real {};",
            (0..read.len()).map(|x| format!("all{x}[EACH]")).collect::<Vec<_>>().join(", ")
        );
        let _ = writeln!(
            text,
            "UNROLL for (uint k = 0; k < EACH; ++k) {{\nconst ulong i = start + k * GROUP_SIZE;\nif (i < length) {{"
        );
        for (x, dtype) in read.iter().enumerate() {
            let _ = writeln!(text, "all{x}[k] = LOAD_{dtype}(table.words[at + {}], i);", 3 + x);
            let _ = writeln!(element, "const real x{x} = all{x}[k];");
        }
        let _ = writeln!(
            text,
            "}}\n}}\nUNROLL for (uint k = 0; k < EACH; ++k) {{\nconst ulong i = start + k * GROUP_SIZE;\nif (i < length) {{"
        );
        text.push_str(&element);
        text.push_str(&source.statements);
        let written = self
            .leaves
            .iter()
            .map(|dtype| name_of(*dtype).unwrap_or_default())
            .chain(self.has_output.then_some(output));
        for ((number, dtype), value) in written.enumerate().zip(&source.values) {
            let slot = 3 + self.inputs.len() + number;
            let _ = writeln!(text, "STORE_{dtype}(table.words[at + {slot}], i, {value});");
        }
        text.push_str("}\n}\n");
        text
    }
}

/// The kernel with these cases, whose table has so many words, and so many for each leaf.
pub(super) fn kernel(cases: &[String], words: usize, stride: usize) -> String {
    let mut programs = String::new();
    for (number, case) in cases.iter().enumerate() {
        let _ = writeln!(programs, "case {number}: {{\n{case}break;\n}}");
    }
    format!(
        "#define WORDS {words}\n#define STRIDE {stride}\n#define GROUP_SIZE {GROUP_SIZE}\n#define EACH {EACH}\n{}",
        SWEEP.replace("PROGRAMS", &programs)
    )
}

#[cfg(test)]
mod tests {
    use treex_kernels::expression::Expression;
    use treex_kernels::number::Number;

    use super::*;

    #[test]
    fn a_case_loads_all_elements_before_it_writes_one() {
        let [u, p, trace] = [0, 1, 2].map(Expression::input);
        let trace = u + trace * 0.9;
        let program = Program::new(false, &[p + trace.clone() * -0.1, trace.sqrt()]);
        let case = Case {
            program: &program,
            inputs: vec![DType::BF16],
            leaves: vec![DType::F32, DType::F64],
            has_output: false,
        };
        let text = case.text();
        let lines: Vec<_> =
            text.lines().filter(|line| line.contains("LOAD") || line.contains("STORE")).collect();
        assert_eq!(
            lines,
            [
                "all0[k] = LOAD_BF16(table.words[at + 3], i);",
                "all1[k] = LOAD_F32(table.words[at + 4], i);",
                "all2[k] = LOAD_F64(table.words[at + 5], i);",
                "STORE_F32(table.words[at + 4], i, t8);",
                "STORE_F64(table.words[at + 5], i, t9);",
            ]
        );
        assert!(
            text.starts_with("typedef float real;\nconst real c0 = bits_to_float((uint)table.words"),
            "{text}"
        );
        assert_eq!(case.slots(), 3);
        let kernel = kernel(&[text], 120, 6);
        assert!(kernel.contains("#define STRIDE 6") && kernel.contains("case 0: {\ntypedef"), "{kernel}");
    }
}
