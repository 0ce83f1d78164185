//! The text of kernels that have a case for each program.

use std::fmt::Write;

use candle_core::DType;
use treex_kernels::dialect::{SHARE, SUMS, SWEEP, TABLE, TOTALS};
use treex_kernels::expression::Source;

use super::part::Program;
use super::table::{BEFORE, Layout};
use crate::capture::plan::Constants;
use crate::device::{EACH, GROUP_SIZE};

/// The types of a part's tensors, and its program.
#[derive(Clone, Debug)]
pub(super) struct Case<'c> {
    pub(super) program: &'c Program,
    pub(super) inputs: Vec<DType>,
    pub(super) leaves: Vec<DType>,
    pub(super) has_output: bool,
    pub(super) scalars: usize,
    /// Whether leaves are written only if the number at the table's second word is not 0.
    pub(super) is_conditional: bool,
}

/// The dialect's name of an element type.
fn name_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "F64",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        _ => "F32", // a part with another type was refused
    }
}

impl Case<'_> {
    /// The tensors of a part.
    pub(super) fn slots(&self) -> usize {
        self.inputs.len() + self.leaves.len() + usize::from(self.has_output) + self.scalars
    }

    /// The case of a sweep: the constants, the loads of all elements of a thread, then the function of each.
    pub(super) fn sweep(&self) -> String {
        let values = &self.program.source.values;
        let output = self.has_output.then_some(self.program.dtype());
        let written = self.leaves.iter().copied().chain(output);
        let mut stores = String::new();
        for ((number, dtype), value) in written.enumerate().zip(values) {
            let (dtype, slot) = (name_of(dtype), self.slot(self.inputs.len() + number));
            let condition =
                if self.is_conditional && number < self.leaves.len() { "if (is_made) " } else { "" };
            put(&mut stores, format_args!("{condition}STORE_{dtype}({slot}, i, {value});"));
        }
        let condition = match self.is_conditional {
            true => "const bool is_made = LOAD_F64(table.words[1], 0) != 0;\n",
            false => "",
        };
        format!("{}{condition}{}", self.loads(), self.each_element(&stores))
    }

    /// The case of sums over a group: those of a thread in the compute type, then in `F64`.
    pub(super) fn sums(&self) -> String {
        let (mut starts, mut adds, mut ends) = (String::new(), String::new(), String::new());
        for (term, value) in self.program.source.values.iter().enumerate() {
            put(&mut starts, format_args!("real sum{term} = 0;"));
            put(&mut adds, format_args!("sum{term} += {value};"));
            put(&mut ends, format_args!("sums[{term}] = sum{term};"));
        }
        format!("{}{starts}{}{ends}", self.loads(), self.each_element(&adds))
    }

    /// The address in a slot.
    fn slot(&self, slot: usize) -> String {
        format!("table.words[share.at + {}]", BEFORE + slot)
    }

    /// The types of the inputs and leaves.
    fn read(&self) -> impl Iterator<Item = &'static str> {
        self.inputs.iter().chain(&self.leaves).map(|dtype| name_of(*dtype))
    }

    fn loads(&self) -> String {
        let Program { is_wide, source, constants: words, .. } = self.program;
        let is_captured = matches!(words, Constants::Addresses(_));
        let mut text = constants(*is_wide, source, "share.constants", is_captured);
        let first = self.slots() - self.scalars;
        for scalar in 0..self.scalars {
            let slot = self.slot(first + scalar);
            put(&mut text, format_args!("const real s{scalar} = (real)LOAD_F64({slot}, 0);"));
        }
        let all: Vec<_> = (0..self.read().count()).map(|x| format!("all{x}[EACH]")).collect();
        put(&mut text, format_args!("real {};", all.join(", ")));
        let mut loads = String::new();
        for (x, dtype) in self.read().enumerate() {
            put(&mut loads, format_args!("all{x}[k] = LOAD_{dtype}({}, i);", self.slot(x)));
        }
        text + &in_range(&loads)
    }

    /// The statements of the program, then `end`, for each element.
    fn each_element(&self, end: &str) -> String {
        let mut element = String::new();
        for x in 0..self.read().count() {
            put(&mut element, format_args!("const real x{x} = all{x}[k];"));
        }
        in_range(&format!("{element}{}{end}", self.program.source.statements))
    }
}

/// Adds a line; writing into memory does not fail.
fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{line}");
}

/// The type `real`, and the constants from the place `from` of the table on; in a captured step their addresses are there.
fn constants(is_wide: bool, source: &Source, from: &str, is_captured: bool) -> String {
    let (real, bits) =
        if is_wide { ("double", "bits_to_double(") } else { ("float", "bits_to_float((uint)") };
    let mut text = format!("typedef {real} real;\n");
    for number in 0..source.constants.len() {
        let word = format!("table.words[{from} + {number}]");
        let word = if is_captured { format!("LOAD_U64({word}, 0)") } else { word };
        put(&mut text, format_args!("const real c{number} = {bits}{word});"));
    }
    text
}

/// `statements` for each element `i` of a thread, the `k`-th of them.
fn in_range(statements: &str) -> String {
    format!(
        "UNROLL for (uint k = 0; k < EACH; ++k) {{\nconst ulong i = share.start + k * GROUP_SIZE;\n\
         if (i < share.length) {{\n{statements}}}\n}}\n"
    )
}

/// The kernel of a sweep with these cases.
pub(super) fn sweep(cases: &[String], layout: Layout) -> String {
    head(layout) + TABLE + SHARE + &SWEEP.replace("PROGRAMS", &switched(cases))
}

/// The kernel of sums of so many terms with these cases.
pub(super) fn sums(cases: &[String], terms: usize, layout: Layout) -> String {
    let head = format!("{}#define TERMS {terms}\n", head(layout));
    head + TABLE + SHARE + &SUMS.replace("PROGRAMS", &switched(cases))
}

/// The kernel of totals of so many terms, and of the first value of `function` of them.
pub(super) fn totals(function: &Source, terms: usize, layout: Layout, is_captured: bool) -> String {
    let mut text = constants(true, function, "(uint)table.words[at + 2]", is_captured);
    for term in 0..terms {
        put(&mut text, format_args!("const real x{term} = total[{term}];"));
    }
    text.push_str(&function.statements);
    for value in function.values.iter().take(1) {
        put(&mut text, format_args!("STORE_F64(table.words[1], GROUP_ID, {value});"));
    }
    let head = format!("{}#define TERMS {terms}\n", head(layout));
    head + TABLE + &TOTALS.replace("FUNCTION", &text)
}

fn head(Layout { words, stride }: Layout) -> String {
    format!(
        "#define WORDS {words}\n#define STRIDE {stride}\n#define GROUP_SIZE {GROUP_SIZE}\n#define EACH {EACH}\n"
    )
}

fn switched(cases: &[String]) -> String {
    let case = |(number, case): (usize, &String)| format!("case {number}: {{\n{case}break;\n}}\n");
    cases.iter().enumerate().map(case).collect()
}

#[cfg(test)]
mod tests {
    use treex_kernels::expression::Expression;
    use treex_kernels::number::Number;

    use super::*;

    #[test]
    fn a_case_loads_all_elements_before_it_writes_one() {
        let [u, p, trace] = [0, 1, 2].map(Expression::input);
        let trace = u * Expression::scalar(0) + trace * 0.9;
        let program = Program::new(false, &[p + trace.clone() * -0.1, trace.sqrt()]);
        let case = Case {
            program: &program,
            inputs: vec![DType::BF16],
            leaves: vec![DType::F32, DType::F64],
            has_output: false,
            scalars: 1,
            is_conditional: false,
        };
        let text = case.sweep();
        let lines: Vec<_> =
            text.lines().filter(|line| line.contains("LOAD") || line.contains("STORE")).collect();
        assert_eq!(
            lines,
            [
                "const real s0 = (real)LOAD_F64(table.words[share.at + 6], 0);",
                "all0[k] = LOAD_BF16(table.words[share.at + 3], i);",
                "all1[k] = LOAD_F32(table.words[share.at + 4], i);",
                "all2[k] = LOAD_F64(table.words[share.at + 5], i);",
                "STORE_F32(table.words[share.at + 4], i, t10);",
                "STORE_F64(table.words[share.at + 5], i, t11);",
            ]
        );
        assert!(
            text.starts_with("typedef float real;\nconst real c0 = bits_to_float((uint)table.words"),
            "{text}"
        );
        assert_eq!(case.slots(), 4);
        let conditional = Case { is_conditional: true, ..case.clone() }.sweep();
        assert!(
            conditional.contains("if (is_made) STORE_F64(") && !conditional.contains("\nSTORE_"),
            "{conditional}"
        );
        let kernel = sweep(&[text], Layout { words: 120, stride: 7 });
        assert!(kernel.contains("#define STRIDE 7") && kernel.contains("case 0: {\ntypedef"), "{kernel}");
        let sums = sums(&[case.sums()], 2, Layout { words: 120, stride: 7 });
        assert!(sums.contains("sum1 += t11;") && sums.contains("#define TERMS 2"), "{sums}");
        let totals =
            totals(&Source::of(&[Expression::input(0).sqrt()]), 2, Layout { words: 9, stride: 3 }, false);
        assert!(totals.contains("const real t1 = sqrt(x0);"), "{totals}");
    }
}
