//! Kernels in host form: compiled with their checks, and run in three orders.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use treex_kernels::dialect::HOST;
use treex_kernels::math::Real;

use crate::compiler;
use crate::element::{Element, Plain, bytes};
use crate::text::{GROUP_SIZE, Text};

const SERVE: &str = include_str!("host/serve.h");

/// A parameter of a launch.
#[derive(Clone, Debug)]
pub(crate) enum Parameter {
    /// Memory that is read.
    Read(Vec<u8>),
    /// Memory that is written, and what it holds before.
    Write(Vec<u8>),
    /// The bytes of a value.
    Value(Vec<u8>),
}

/// Memory that is read.
pub(crate) fn read<T: Plain>(numbers: &[T]) -> Parameter {
    Parameter::Read(bytes(numbers))
}

/// New memory: NaN, so that an element without a value is seen.
pub(crate) fn write<T: Plain>(len: usize) -> Parameter {
    Parameter::Write(vec![0xff; len * T::SIZE])
}

/// A value.
pub(crate) fn value<T: Plain>(number: T) -> Parameter {
    Parameter::Value(bytes(&[number]))
}

/// A `ulong`.
pub(crate) fn long(number: usize) -> Parameter {
    value(number as u64)
}

/// A `uint`.
pub(crate) fn short(number: usize) -> Parameter {
    value(number as u32)
}

/// A `real` of elements `T`.
pub(crate) fn real<T: Element>(number: f64) -> Parameter {
    value(T::Wide::of(number))
}

/// The address of memory in a table.
pub(crate) fn address(number: usize) -> u64 {
    (number as u64 + 1) << 40
}

/// A program of all texts of a test.
#[derive(Debug, Default)]
pub(crate) struct Host {
    texts: Vec<Text>,
    launched: BTreeSet<String>,
    /// `None` while texts are collected.
    program: Option<PathBuf>,
}

impl Host {
    /// Runs `checks` twice: first each launch adds its text to the program and writes nothing, then the kernels run.
    /// All of `kernels` are among them.
    pub(crate) fn check(name: &str, kernels: &[&str], checks: impl Fn(&mut Self)) {
        if !compiler::is_there() {
            return;
        }
        let mut host = Self::default();
        checks(&mut host);
        host.program =
            Some(compiler::program(name, &source(&host.texts)).unwrap_or_else(|said| panic!("{said}")));
        checks(&mut host);
        for kernel in kernels {
            assert!(host.launched.contains(*kernel), "`{kernel}` is not launched");
        }
    }

    /// The memory that kernel `name` of `text` writes, in the order of its parameters.
    pub(crate) fn launch(
        &mut self,
        text: &Text,
        name: &str,
        groups: usize,
        parameters: &[Parameter],
    ) -> Vec<Vec<u8>> {
        let Some(program) = &self.program else {
            if !self.texts.contains(text) {
                self.texts.push(text.clone());
            }
            return written(parameters).cloned().collect();
        };
        self.launched.insert(name.to_owned());
        let kernels =
            self.texts.iter().flat_map(|of| of.kernels().into_iter().map(move |kernel| (of, kernel)));
        let kernel = kernels.into_iter().position(|(of, kernel)| of == text && kernel == name).unwrap();
        let found = run(program, &input(kernel, groups, parameters))
            .unwrap_or_else(|said| panic!("{name}: {said}\n{}", text.defined()));
        let (mut at, mut all) = (0, Vec::new());
        for parameter in parameters {
            let len = memory_len(parameter);
            if let Parameter::Write(_) = parameter {
                all.push(found[at..at + len].to_vec());
            }
            at += len;
        }
        all
    }

    /// Asserts that these are the same bytes.
    #[track_caller]
    pub(crate) fn equal(&self, what: &str, found: &[u8], expected: &[u8]) {
        assert!(self.program.is_none() || found == expected, "{what}: {found:?}, not {expected:?}");
    }

    /// Asserts that elements are near to those of the CPU: within the differences of sums of the size of `scale`, and of one
    /// rounding.
    #[track_caller]
    pub(crate) fn near<T: Element>(&self, what: &str, found: &[u8], expected: &[T], scale: f64) {
        if self.program.is_none() {
            return;
        }
        let found: Vec<T> = found.chunks_exact(T::SIZE).map(T::get).collect();
        assert_eq!(found.len(), expected.len(), "{what}");
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let (found, expected) = (found.exact(), expected.exact());
            let bound = T::WIDE * expected.abs().max(scale) + T::ROUNDING * expected.abs();
            let is_near = (found - expected).abs() <= bound || found == expected;
            assert!(
                is_near || found.is_nan() && expected.is_nan(),
                "{what} of {}: {i}: {found}, not {expected}",
                T::NAME
            );
        }
    }

    /// Asserts that elements are near to those of the CPU, relative to the largest of these: where what they are computed from was
    /// rounded so many times on the way.
    #[track_caller]
    pub(crate) fn near_overall<T: Element>(&self, what: &str, found: &[T], expected: &[T], roundings: f64) {
        if self.program.is_none() {
            return;
        }
        assert_eq!(found.len(), expected.len(), "{what}");
        let largest = expected.iter().map(|x| x.exact().abs()).fold(0., f64::max);
        let bound = (T::WIDE + roundings * T::ROUNDING) * largest;
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let (found, expected) = (found.exact(), expected.exact());
            let is_near = (found - expected).abs() <= bound;
            assert!(is_near, "{what} of {}: {i}: {found}, not {expected} within {bound:e}", T::NAME);
        }
    }

    /// Asserts that numbers of the type that `T` is computed in are near.
    #[track_caller]
    pub(crate) fn wide_near<T: Element>(&self, what: &str, found: &[u8], expected: &[f64], scale: f64) {
        if self.program.is_none() {
            return;
        }
        let found: Vec<f64> =
            found.chunks_exact(T::Wide::SIZE).map(|bytes| T::Wide::get(bytes).to_f64()).collect();
        let what = format!("{what} of {}", T::NAME);
        self.in_f64(&what, &bytes(&found), expected, scale * T::WIDE);
    }

    /// Asserts that `f64` numbers differ by at most `tolerance`, relative where they are larger than 1.
    #[track_caller]
    pub(crate) fn in_f64(&self, what: &str, found: &[u8], expected: &[f64], tolerance: f64) {
        if self.program.is_none() {
            return;
        }
        let found: Vec<f64> = found.chunks_exact(f64::SIZE).map(f64::get).collect();
        assert_eq!(found.len(), expected.len(), "{what}");
        for (i, (found, &expected)) in found.into_iter().zip(expected).enumerate() {
            let is_near = (found - expected).abs() <= tolerance * expected.abs().max(1.);
            assert!(is_near || found.is_nan() && expected.is_nan(), "{what}: {i}: {found}, not {expected}");
        }
    }
}

/// The source of a program of these texts.
pub(crate) fn source(texts: &[Text]) -> String {
    let (mut all, mut kernels) = (HOST.to_owned(), String::new());
    for (number, text) in texts.iter().enumerate() {
        all += &text.within(&format!("text{number}"));
        for name in text.kernels() {
            kernels += &format!("    serve::kernel(&text{number}::{name}),\n");
        }
    }
    format!("{all}{SERVE}int main() {{\n    return serve::all({{\n{kernels}    }});\n}}\n")
}

/// What a program writes, or what it says if it fails.
pub(crate) fn run(program: &PathBuf, input: &[u8]) -> Result<Vec<u8>, String> {
    let pipe = Stdio::piped;
    let mut child = Command::new(program).stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    // It reads all of its input before it writes.
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// The input of `serve.h`. Behind a value that comes first, a table, is the memory of its addresses; otherwise all are parameters.
pub(crate) fn input(kernel: usize, groups: usize, parameters: &[Parameter]) -> Vec<u8> {
    let mut input = Vec::new();
    let put = |number: usize, input: &mut Vec<u8>| (number as u64).put(input);
    let memory: Vec<_> = parameters.iter().filter_map(memory).collect();
    for number in [kernel, groups, GROUP_SIZE, memory.len()] {
        put(number, &mut input);
    }
    for memory in memory {
        put(memory.len(), &mut input);
        input.extend(memory);
    }
    let has_table = matches!(parameters.first(), Some(Parameter::Value(_)));
    let parameters = if has_table { &parameters[..1] } else { parameters };
    put(parameters.len(), &mut input);
    let mut number = 0;
    for parameter in parameters {
        let (next, value) = match parameter {
            Parameter::Value(value) => (number, value.as_slice()),
            _ => (number + 1, &[][..]),
        };
        put(number, &mut input);
        put(value.len(), &mut input);
        input.extend(value);
        number = next;
    }
    input
}

fn memory(parameter: &Parameter) -> Option<&Vec<u8>> {
    match parameter {
        Parameter::Read(memory) | Parameter::Write(memory) => Some(memory),
        Parameter::Value(_) => None,
    }
}

fn memory_len(parameter: &Parameter) -> usize {
    memory(parameter).map_or(0, Vec::len)
}

fn written(parameters: &[Parameter]) -> impl Iterator<Item = &Vec<u8>> {
    parameters.iter().filter_map(|parameter| match parameter {
        Parameter::Write(memory) => Some(memory),
        _ => None,
    })
}
