//! An elementwise function traced to an expression, which is printed as source of a device kernel.

use std::collections::HashMap;
use std::fmt::Write;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::Arc;

use crate::number::Number;

/// A traced number: the expression that computes it.
#[derive(Clone, Debug)]
pub struct Expression(Arc<Node>);

#[derive(Debug)]
enum Node {
    Input(usize),
    /// A number for all elements, from the device's memory.
    Scalar(usize),
    Constant(f64),
    Unary(Unary, Expression),
    Binary(Binary, Expression, Expression),
    MulAdd(Expression, Expression, Expression),
    If(Comparison, [Expression; 4]),
}

#[derive(Clone, Copy, Debug)]
enum Unary {
    Neg,
    Sqrt,
    Abs,
    Powf(f64),
    Tanh,
    Exp,
    ExpM1,
    Ln,
    Ln1P,
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Less,
    AtMost,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Binary {
    Add,
    Sub,
    Mul,
    Div,
}

impl Expression {
    fn new(node: Node) -> Self {
        Self(Arc::new(node))
    }

    /// The element of the input at `index`.
    #[must_use]
    pub fn input(index: usize) -> Self {
        Self::new(Node::Input(index))
    }

    /// The number at `index` among those that are one for all elements and known to the device alone.
    #[must_use]
    pub fn scalar(index: usize) -> Self {
        Self::new(Node::Scalar(index))
    }

    /// `factor`, if this is input `index` times a constant.
    #[must_use]
    pub fn as_multiple_of(&self, index: usize) -> Option<f64> {
        match &*self.0 {
            Node::Binary(Binary::Mul, x, factor) => match (&*x.0, &*factor.0) {
                (Node::Input(input), Node::Constant(factor)) if *input == index => Some(*factor),
                _ => None,
            },
            _ => None,
        }
    }

    /// What is added, if this is input `index` plus something.
    #[must_use]
    pub fn as_sum_with(&self, index: usize) -> Option<&Self> {
        match &*self.0 {
            Node::Binary(Binary::Add, x, other) if matches!(&*x.0, Node::Input(input) if *input == index) => {
                Some(other)
            }
            _ => None,
        }
    }
}

/// The text of expressions in the kernel dialect, which is C++: statements over the inputs `x0`, `x1`, .., the scalars
/// `s0`, `s1`, .. and the constants `c0`, `c1`, .. of a type `real`. Expressions that differ in their constants alone have the same text, so that a kernel
/// serves every step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// Declarations of `real` variables, a line each. A shared part of the expressions is computed once.
    pub statements: String,
    /// A name or a variable for each expression.
    pub values: Vec<String>,
    /// The constants, in the order of their names.
    pub constants: Vec<f64>,
}

impl Source {
    /// Prints `expressions`.
    #[must_use]
    pub fn of(expressions: &[Expression]) -> Self {
        let (mut source, mut known) = (Self::default(), HashMap::new());
        let values = expressions.iter().map(|expression| source.value(expression, &mut known)).collect();
        Self { values, ..source }
    }

    /// The name of an expression's value, by the addresses of those that were printed.
    fn value(&mut self, expression: &Expression, known: &mut HashMap<usize, String>) -> String {
        let address = Arc::as_ptr(&expression.0).addr();
        if let Some(name) = known.get(&address) {
            return name.clone();
        }
        let name = match &*expression.0 {
            Node::Input(index) => format!("x{index}"),
            Node::Scalar(index) => format!("s{index}"),
            Node::Constant(value) => self.constant(*value),
            Node::Unary(op, a) => {
                let a = self.value(a, known);
                let text = match op {
                    Unary::Neg => format!("-{a}"),
                    Unary::Sqrt => format!("sqrt({a})"),
                    Unary::Abs => format!("fabs({a})"),
                    Unary::Powf(exponent) => format!("pow({a}, {})", self.constant(*exponent)),
                    Unary::Tanh => format!("tanh({a})"),
                    Unary::Exp => format!("exp({a})"),
                    Unary::ExpM1 => format!("expm1({a})"),
                    Unary::Ln => format!("log({a})"),
                    Unary::Ln1P => format!("log1p({a})"),
                };
                self.variable(&text, known.len())
            }
            Node::Binary(op, a, b) => {
                let (a, b) = (self.value(a, known), self.value(b, known));
                let op = match op {
                    Binary::Add => '+',
                    Binary::Sub => '-',
                    Binary::Mul => '*',
                    Binary::Div => '/',
                };
                self.variable(&format!("{a} {op} {b}"), known.len())
            }
            Node::MulAdd(a, b, c) => {
                let [a, b, c] = [a, b, c].map(|part| self.value(part, known));
                self.variable(&format!("fma({a}, {b}, {c})"), known.len())
            }
            Node::If(comparison, parts) => {
                let [a, b, then, otherwise] = parts.each_ref().map(|part| self.value(part, known));
                let comparison = match comparison {
                    Comparison::Less => "<",
                    Comparison::AtMost => "<=",
                };
                self.variable(&format!("{a} {comparison} {b} ? {then} : {otherwise}"), known.len())
            }
        };
        known.insert(address, name.clone());
        name
    }

    fn constant(&mut self, value: f64) -> String {
        self.constants.push(value);
        format!("c{}", self.constants.len() - 1)
    }

    /// A variable whose number no other one has.
    fn variable(&mut self, text: &str, number: usize) -> String {
        let name = format!("t{number}");
        let _ = writeln!(self.statements, "const real {name} = {text};"); // into memory
        name
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident),*) => {$(
        impl $trait for Expression {
            type Output = Self;

            fn $method(self, other: Self) -> Self {
                Self::new(Node::Binary(Binary::$trait, self, other))
            }
        }

        impl $trait<f64> for Expression {
            type Output = Self;

            fn $method(self, other: f64) -> Self {
                self.$method(Self::constant(other))
            }
        }
    )*};
}

operators!(Add add, Sub sub, Mul mul, Div div);

impl Neg for Expression {
    type Output = Self;

    fn neg(self) -> Self {
        Self::new(Node::Unary(Unary::Neg, self))
    }
}

impl Number for Expression {
    fn constant(value: f64) -> Self {
        Self::new(Node::Constant(value))
    }

    fn sqrt(self) -> Self {
        Self::new(Node::Unary(Unary::Sqrt, self))
    }

    fn abs(self) -> Self {
        Self::new(Node::Unary(Unary::Abs, self))
    }

    fn powf(self, exponent: f64) -> Self {
        Self::new(Node::Unary(Unary::Powf(exponent), self))
    }

    fn tanh(self) -> Self {
        Self::new(Node::Unary(Unary::Tanh, self))
    }

    fn exp(self) -> Self {
        Self::new(Node::Unary(Unary::Exp, self))
    }

    fn ln(self) -> Self {
        Self::new(Node::Unary(Unary::Ln, self))
    }

    fn if_less(self, other: Self, then: Self, otherwise: Self) -> Self {
        Self::new(Node::If(Comparison::Less, [self, other, then, otherwise]))
    }

    fn if_at_most(self, other: Self, then: Self, otherwise: Self) -> Self {
        Self::new(Node::If(Comparison::AtMost, [self, other, then, otherwise]))
    }

    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self::new(Node::MulAdd(self, factor, addend))
    }

    fn exp_m1(self) -> Self {
        Self::new(Node::Unary(Unary::ExpM1, self))
    }

    fn ln_1p(self) -> Self {
        Self::new(Node::Unary(Unary::Ln1P, self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Momentum and a rate.
    fn step(decay: f64, rate: f64) -> [Expression; 2] {
        let [u, trace] = [0, 2].map(Expression::input);
        let trace = u + trace * decay;
        [trace.clone() * -rate, trace]
    }

    #[test]
    fn a_shared_part_is_computed_once_and_constants_are_not_in_the_text() {
        let source = Source::of(&step(0.9, 0.1));
        let lines = ["const real t3 = x2 * c0;", "const real t4 = x0 + t3;", "const real t6 = t4 * c1;", ""];
        assert_eq!(source.statements, lines.join("\n"));
        assert_eq!((source.values, source.constants), (vec!["t6".to_owned(), "t4".into()], vec![0.9, -0.1]));
        let other = Source::of(&step(0.5, 7.));
        assert_eq!((other.statements, other.constants), (source.statements, vec![0.5, -7.]));
    }

    #[test]
    fn each_function_has_its_text() {
        let x = || Expression::input(0);
        for (function, text) in [
            (-x(), "-x0"),
            (x().sqrt(), "sqrt(x0)"),
            (x().abs(), "fabs(x0)"),
            (x().powf(3.), "pow(x0, c0)"),
            (x().tanh(), "tanh(x0)"),
            (x().exp(), "exp(x0)"),
            (x().ln(), "log(x0)"),
            (x().exp_m1(), "expm1(x0)"),
            (x().ln_1p(), "log1p(x0)"),
            (x().mul_add(Expression::input(1), Expression::input(2)), "fma(x0, x1, x2)"),
            (x().if_at_most(Expression::input(1), Expression::input(2), x()), "x0 <= x1 ? x2 : x0"),
            (x() - Expression::input(1), "x0 - x1"),
            (x() / Expression::input(1), "x0 / x1"),
            (x().if_less(Expression::input(1), Expression::input(2), x()), "x0 < x1 ? x2 : x0"),
        ] {
            let source = Source::of(&[function]);
            let name = &source.values[0];
            assert_eq!(source.statements, format!("const real {name} = {text};\n"));
        }
        assert_eq!(Source::of(&[x(), Expression::scalar(1)]).values, ["x0", "s1"]);
    }

    #[test]
    fn multiples_and_sums_are_seen() {
        let [u, p] = [0, 1].map(Expression::input);
        assert_eq!((u.clone() * 2.).as_multiple_of(0), Some(2.));
        assert_eq!((u.clone() * 2.).as_multiple_of(1), None);
        assert_eq!((u.clone() + p.clone() * 3.).as_sum_with(0).and_then(|p| p.as_multiple_of(1)), Some(3.));
        assert!((p.clone() + u.clone()).as_sum_with(0).is_none() && (u * p).as_sum_with(0).is_none());
    }
}
