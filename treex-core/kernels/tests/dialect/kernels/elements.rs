//! Functions of each element: sums, dropout, and what is printed of a traced function.

use treex_kernels::add::{Add, DIALECT as ADD};
use treex_kernels::dialect::{EACH, ELEMENT, THREEFRY};
use treex_kernels::dropout::{DIALECT as DROPOUT, Dropout};
use treex_kernels::elementwise::{DIALECT as ELEMENTWISE, Elementwise, ElementwiseKernels};
use treex_kernels::expression::Source;
use treex_kernels::random::bernoulli::Bernoulli;

use super::for_each_type;
use crate::element::{Element, numbers};
use crate::host::{Host, long, read, real, short, write};
use crate::layout::groups;
use crate::text::Text;

pub(crate) const FUNCTIONS: [Elementwise; 9] = [
    Elementwise::Relu,
    Elementwise::Relu6,
    Elementwise::LeakyRelu(0.1),
    Elementwise::Elu(1.3),
    Elementwise::Gelu,
    Elementwise::Silu,
    Elementwise::Sigmoid,
    Elementwise::Tanh,
    Elementwise::Softplus,
];

pub(super) fn check(host: &mut Host) {
    for_each_type!(add(host));
    for_each_type!(dropout(host));
    for_each_type!(functions(host));
}

fn add<T: Element + Add>(host: &mut Host) {
    let text = Text::of_element(T::NAME, &[ELEMENT, EACH, ADD], &[]);
    for (len, period) in [(3, 3), (33 * 300, 33)] {
        let (x, y): (Vec<T>, Vec<T>) = (numbers(len, 1), numbers(period, 2));
        let expected = T::broadcast_add(&x, &y).unwrap();
        let parameters = [read(&x), read(&y), write::<T>(len), long(len), long(period)];
        let found = host.launch(&text, "add", groups(len), &parameters);
        host.near("add", &found[0], &expected, 0.);
    }
}

fn dropout<T: Element + Dropout>(host: &mut Host) {
    let text = Text::of_element(T::NAME, &[ELEMENT, THREEFRY, EACH, DROPOUT], &[]);
    let (key, kept) = ([17, 42], Bernoulli::new(0.7));
    for len in [3, 1024, 5003] {
        let x: Vec<T> = numbers(len, 1);
        let expected = T::dropout(&x, key, kept, T::of(1.25)).unwrap();
        let words = long(key[0] as usize | (key[1] as usize) << 32);
        let below = short(kept.below() as usize);
        let parameters = [read(&x), write::<T>(len), long(len), words, below, real::<T>(1.25)];
        let found = host.launch(&text, "dropout", groups(len), &parameters);
        host.near("dropout", &found[0], &expected, 0.);
    }
}

fn functions<T: Element + ElementwiseKernels>(host: &mut Host) {
    let len = 2500;
    let x: Vec<T> = numbers::<f64>(len, 1).iter().map(|x| T::of(x * 5.)).collect();
    let dy: Vec<T> = numbers(len, 2);
    for function in FUNCTIONS {
        let value = T::map(function, &x).unwrap();
        let gradient = T::map_backward(function, &x, &dy).unwrap();
        for (is_backward, expected) in [(0, value), (1, gradient)] {
            let traced = if is_backward == 0 { function.traced() } else { function.traced_gradient() };
            let body = printed(ELEMENTWISE, &Source::of(&[traced]));
            let text = Text::of_element(T::NAME, &[ELEMENT, EACH, &body], &[("IS_BACKWARD", is_backward)]);
            let parameters = [read(&x), read(&dy), write::<T>(len), long(len)];
            let found = host.launch(&text, "elementwise", groups(len), &parameters);
            host.near(function.name(), &found[0], &expected, 1.);
        }
    }
}

/// A text with a function in it, as a launch puts it together.
pub(crate) fn printed(text: &str, source: &Source) -> String {
    let mut named = String::new();
    for (number, constant) in source.constants.iter().enumerate() {
        named += &format!("const real c{number} = (real)bits_to_double({:#x}ul);\n", constant.to_bits());
    }
    text.replace("CONSTANTS", &named)
        .replace("STATEMENTS", &source.statements)
        .replace("RESULTS", &source.values.join(", "))
}
