//! Kernels over many tensors, whose addresses are in a table: with programs as treex-core prints them.

use treex_kernels::dialect::{BERNOULLI, SHARE, SUMS, SWEEP, TABLE, THREEFRY, TOTALS};
use treex_kernels::expression::{Expression, Source};
use treex_kernels::number::Number;
use treex_kernels::random::bernoulli::Bernoulli;
use treex_kernels::random::threefry::block;

use super::for_each_type;
use crate::element::{Element, bytes, numbers};
use crate::host::{Host, Parameter, address, read, write};
use crate::layout::groups;
use crate::text::{EACH, GROUP_SIZE, Text};

/// Numbers of elements: of one thread, of one group, and of several.
const LENGTHS: [usize; 4] = [1, 1024, 3, 2500];

/// Words of a leaf: three, and its addresses.
const STRIDE: usize = 5;

pub(super) fn check(host: &mut Host) {
    bernoulli(host);
    for_each_type!(sweep(host));
    for_each_type!(sums(host));
}

fn bernoulli(host: &mut Host) {
    let text = Text::new(&[TABLE, THREEFRY, BERNOULLI], &defines(4, STRIDE, 1));
    let (key, p) = ([3, 5], Bernoulli::new(0.3));
    for len in LENGTHS {
        let expected: Vec<u8> = (0..len).map(|i| p.sample(block(key, i as u64)).into()).collect();
        let words = [address(0), len as u64, u64::from(key[0]) | u64::from(key[1]) << 32, p.below().into()];
        let table = Parameter::Value(bytes(&words));
        let found = host.launch(&text, "bernoulli", groups(len), &[table, write::<u8>(len)]);
        host.equal("samples", &found[0], &expected);
    }
}

fn defines(words: usize, stride: usize, terms: usize) -> [(&'static str, usize); 5] {
    [("WORDS", words), ("STRIDE", stride), ("GROUP_SIZE", GROUP_SIZE), ("EACH", EACH), ("TERMS", terms)]
}

/// The words of a launch over tensors of these lengths in a text with one program: two tensors each, and a constant for all.
fn words(result: u64, constant: u64) -> (Vec<u64>, usize) {
    let (mut words, mut first) = (vec![LENGTHS.len() as u64, result], 0);
    let behind = 2 + LENGTHS.len() * STRIDE;
    for (number, len) in LENGTHS.into_iter().enumerate() {
        let [x, y] = [2 * number, 2 * number + 1].map(address);
        words.extend([first as u64, len as u64, behind as u64, x, y]);
        first += groups(len);
    }
    words.push(constant);
    (words, first)
}

/// The type and the constant of a program.
fn head<T: Element>() -> &'static str {
    if T::NAME == "F64" {
        "typedef double real;\nconst real c0 = bits_to_double(table.words[share.constants]);\n"
    } else {
        "typedef float real;\nconst real c0 = bits_to_float((uint)table.words[share.constants]);\n"
    }
}

fn bits<T: Element>(constant: f64) -> u64 {
    if T::NAME == "F64" { constant.to_bits() } else { u64::from((constant as f32).to_bits()) }
}

/// A case of one program, with these statements for each element, and others behind all.
fn case<T: Element>(before: &str, each: &str, behind: &str) -> String {
    let (head, element) = (head::<T>(), T::NAME);
    format!(
        "case 0: {{\n{head}{before}UNROLL for (uint k = 0; k < EACH; ++k) {{\n\
         const ulong i = share.start + k * GROUP_SIZE;\nif (i < share.length) {{\n\
         const real x0 = LOAD_{element}(table.words[share.at + 3], i);\n\
         const real x1 = LOAD_{element}(table.words[share.at + 4], i);\n{each}}}\n}}\n{behind}break;\n}}\n"
    )
}

/// `y = x + 0.75 y`.
fn sweep<T: Element>(host: &mut Host) {
    let source = Source::of(&[Expression::input(0) + Expression::input(1) * 0.75]);
    let store = format!("STORE_{}(table.words[share.at + 4], i, {});\n", T::NAME, source.values[0]);
    let case = case::<T>("", &(source.statements + &store), "");
    let (words, groups) = words(0, bits::<T>(source.constants[0]));
    let body = SWEEP.replace("PROGRAMS", &case);
    let text = Text::new(&[TABLE, SHARE, &body], &defines(words.len(), STRIDE, 1));
    let mut parameters = vec![Parameter::Value(bytes(&words))];
    for (seed, len) in LENGTHS.into_iter().enumerate() {
        parameters
            .extend([read::<T>(&numbers(len, seed)), Parameter::Write(bytes::<T>(&numbers(len, seed + 9)))]);
    }
    let found = host.launch(&text, "sweep", groups, &parameters);
    for ((seed, len), found) in LENGTHS.into_iter().enumerate().zip(found) {
        let (x, y): (Vec<T>, Vec<T>) = (numbers(len, seed), numbers(len, seed + 9));
        let expected: Vec<T> = x.iter().zip(y).map(|(x, y)| T::of(x.exact() + 0.75 * y.exact())).collect();
        host.near("a sweep", &found, &expected, 1.);
    }
}

/// `sum(0.75 x y)` and `sum(x)` of all tensors, and the root of the sum of their squares.
fn sums<T: Element>(host: &mut Host) {
    let [x, y] = [0, 1].map(Expression::input);
    let source = Source::of(&[x.clone() * y * 0.75, x]);
    let [first, second] = [&source.values[0], &source.values[1]];
    let each = format!("{}sum0 += {first};\nsum1 += {second};\n", source.statements);
    let starts = "real sum0 = 0;\nreal sum1 = 0;\n";
    let case = case::<T>(starts, &each, "sums[0] = sum0;\nsums[1] = sum1;\n");
    let result = 2 * LENGTHS.len();
    let (words, groups) = words(address(result), bits::<T>(source.constants[0]));
    let text = Text::new(&[TABLE, SHARE, &SUMS.replace("PROGRAMS", &case)], &defines(words.len(), STRIDE, 2));
    let mut parameters = vec![Parameter::Value(bytes(&words))];
    for (seed, len) in LENGTHS.into_iter().enumerate() {
        parameters.extend([seed, seed + 9].map(|seed| read::<T>(&numbers(len, seed))));
    }
    parameters.push(write::<f64>(2 * groups));
    let parts = host.launch(&text, "sums", groups, &parameters).remove(0);

    // One range of all groups, and an empty one.
    let [first, second] = [0, 1].map(Expression::input);
    let source = Source::of(&[(first.sqr() + second.sqr()).sqrt()]);
    let store = format!("STORE_F64(table.words[1], GROUP_ID, {});\n", source.values[0]);
    let head = "typedef double real;\nconst real x0 = total[0];\nconst real x1 = total[1];\n";
    let body = TOTALS.replace("FUNCTION", &[head, &source.statements, &store].concat());
    let words = [2, address(1), address(0), groups as u64, 8, address(0), 0, 8];
    let text = Text::new(&[TABLE, &body], &defines(words.len(), 3, 2));
    let parameters = [Parameter::Value(bytes(&words)), Parameter::Read(parts), write::<f64>(2)];
    let found = host.launch(&text, "totals", 2, &parameters).remove(0);
    let mut sums = [0.; 2];
    for (seed, len) in LENGTHS.into_iter().enumerate() {
        for (x, y) in numbers::<T>(len, seed).into_iter().zip(numbers::<T>(len, seed + 9)) {
            sums[0] += 0.75 * x.exact() * y.exact();
            sums[1] += x.exact();
        }
    }
    host.in_f64("totals", &found, &[sums[0].hypot(sums[1]), 0.], 10. * T::WIDE);
}
