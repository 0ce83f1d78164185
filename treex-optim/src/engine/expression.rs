//! A rule traced to an expression: evaluated on whole tensors, and later printed as kernel source.

use std::collections::HashMap;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::fusion::Fusable;
use super::number::Number;

/// A traced number: the expression that computes it.
#[derive(Clone, Debug)]
pub(crate) struct Expression(Arc<Node>);

#[derive(Debug)]
enum Node {
    Input(usize),
    Constant(f64),
    Unary(Unary, Expression),
    Binary(Binary, Expression, Expression),
    IfLess(Expression, Expression, Expression, Expression),
}

#[derive(Clone, Copy, Debug)]
enum Unary {
    Neg,
    Sqrt,
    Abs,
    Powf(f64),
    Tanh,
    Exp,
    Ln,
}

#[derive(Clone, Copy, Debug)]
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

    /// The element of the tensor at `index` among the inputs.
    pub(crate) fn input(index: usize) -> Self {
        Self::new(Node::Input(index))
    }

    /// The fusable form, if this only scales the update (input 0) or adds a multiple of the parameter (input
    /// 1).
    pub(crate) fn fusable(&self) -> Option<Fusable> {
        let Node::Binary(op, u, other) = &*self.0 else { return None };
        match (op, &*u.0, &*other.0) {
            (Binary::Mul, Node::Input(0), Node::Constant(factor)) => Some(Fusable::Scale(*factor)),
            (Binary::Add, Node::Input(0), Node::Binary(Binary::Mul, p, factor)) => {
                match (&*p.0, &*factor.0) {
                    (Node::Input(1), Node::Constant(factor)) => Some(Fusable::Decay(*factor)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The values of expressions over `inputs`, which have one shape and one type. Shared subexpressions are
    /// computed once.
    pub(crate) fn evaluate(expressions: &[Self], inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut known = HashMap::new();
        let mut evaluate = |expression: &Self| match expression.value(inputs, &mut known)? {
            Value::Tensor(tensor) => Ok(tensor),
            Value::Constant(constant) => inputs[0].zeros_like()?.affine(1., constant),
        };
        expressions.iter().map(&mut evaluate).collect()
    }

    fn value(&self, inputs: &[Tensor], known: &mut HashMap<usize, Value>) -> Result<Value> {
        let address = Arc::as_ptr(&self.0).addr();
        if let Some(value) = known.get(&address) {
            return Ok(value.clone());
        }
        let value = match &*self.0 {
            Node::Input(index) => Value::Tensor(inputs[*index].clone()),
            Node::Constant(value) => Value::Constant(*value),
            Node::Unary(op, a) => a.value(inputs, known)?.unary(*op)?,
            Node::Binary(op, a, b) => a.value(inputs, known)?.binary(*op, b.value(inputs, known)?)?,
            Node::IfLess(a, b, then, otherwise) => {
                let full = |value: Value| value.full(&inputs[0]);
                let less = full(a.value(inputs, known)?)?.lt(&full(b.value(inputs, known)?)?)?;
                let then = full(then.value(inputs, known)?)?;
                Value::Tensor(less.where_cond(&then, &full(otherwise.value(inputs, known)?)?)?)
            }
        };
        known.insert(address, value.clone());
        Ok(value)
    }
}

/// A constant becomes a tensor only where an operation needs one.
#[derive(Clone, Debug)]
enum Value {
    Tensor(Tensor),
    Constant(f64),
}

impl Value {
    fn full(self, like: &Tensor) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor),
            Self::Constant(constant) => like.zeros_like()?.affine(1., constant),
        }
    }

    fn unary(self, op: Unary) -> Result<Self> {
        Ok(match self {
            Self::Tensor(x) => Self::Tensor(match op {
                Unary::Neg => x.neg()?,
                Unary::Sqrt => x.sqrt()?,
                Unary::Abs => x.abs()?,
                Unary::Powf(exponent) => x.powf(exponent)?,
                Unary::Tanh => x.tanh()?,
                Unary::Exp => x.exp()?,
                Unary::Ln => x.log()?,
            }),
            Self::Constant(x) => Self::Constant(match op {
                Unary::Neg => -x,
                Unary::Sqrt => x.sqrt(),
                Unary::Abs => x.abs(),
                Unary::Powf(exponent) => x.powf(exponent),
                Unary::Tanh => x.tanh(),
                Unary::Exp => x.exp(),
                Unary::Ln => x.ln(),
            }),
        })
    }

    fn binary(self, op: Binary, other: Self) -> Result<Self> {
        Ok(match (self, op, other) {
            (Self::Constant(a), op, Self::Constant(b)) => Self::Constant(match op {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
            }),
            (Self::Tensor(a), Binary::Add, Self::Tensor(b)) => Self::Tensor((a + b)?),
            (Self::Tensor(a), Binary::Sub, Self::Tensor(b)) => Self::Tensor((a - b)?),
            (Self::Tensor(a), Binary::Mul, Self::Tensor(b)) => Self::Tensor((a * b)?),
            (Self::Tensor(a), Binary::Div, Self::Tensor(b)) => Self::Tensor((a / b)?),
            (Self::Tensor(a), Binary::Add, Self::Constant(b))
            | (Self::Constant(b), Binary::Add, Self::Tensor(a)) => Self::Tensor(a.affine(1., b)?),
            (Self::Tensor(a), Binary::Mul, Self::Constant(b))
            | (Self::Constant(b), Binary::Mul, Self::Tensor(a)) => Self::Tensor(a.affine(b, 0.)?),
            (Self::Tensor(a), Binary::Sub, Self::Constant(b)) => Self::Tensor(a.affine(1., -b)?),
            (Self::Constant(a), Binary::Sub, Self::Tensor(b)) => Self::Tensor(b.affine(-1., a)?),
            (Self::Tensor(a), Binary::Div, Self::Constant(b)) => Self::Tensor((a / b)?),
            (Self::Constant(a), Binary::Div, Self::Tensor(b)) => Self::Tensor(b.recip()?.affine(a, 0.)?),
        })
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
        Self::new(Node::IfLess(self, other, then, otherwise))
    }
}
