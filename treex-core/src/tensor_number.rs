//! A whole tensor as a number, for elementwise functions that are written once for any number.

use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use treex_kernels::number::Number;

use crate::error::Result;

/// The elements of a tensor, or a constant for all of them. All tensors of a function have one shape and one type. What a
/// Candle operation reports is the error of [`into_tensor`](Self::into_tensor).
#[derive(Clone, Debug)]
pub struct TensorNumber(Value);

#[derive(Clone, Debug)]
enum Value {
    Tensor(Tensor),
    /// It becomes a tensor only where an operation needs one.
    Constant(f64),
    /// The error of an operation, until it is reported.
    Failed(Arc<Mutex<Option<candle_core::Error>>>),
}

impl TensorNumber {
    /// The elements of `tensor`.
    #[must_use]
    pub fn new(tensor: &Tensor) -> Self {
        Self(Value::Tensor(tensor.clone()))
    }

    /// The values, for a function of tensors that are like `like`.
    ///
    /// # Errors
    /// The first error of an operation that this number depends on.
    pub fn into_tensor(self, like: &Tensor) -> Result<Tensor> {
        Ok(self.0.full(like)?)
    }
}

impl Value {
    fn of(result: candle_core::Result<Tensor>) -> Self {
        match result {
            Ok(tensor) => Self::Tensor(tensor),
            Err(error) => Self::Failed(Arc::new(Mutex::new(Some(error)))),
        }
    }

    fn full(self, like: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor),
            Self::Constant(constant) => like.zeros_like()?.affine(1., constant),
            Self::Failed(error) => {
                let error = error.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(error.unwrap_or_else(|| candle_core::Error::Msg("an operation before failed".into())))
            }
        }
    }

    fn unary(
        self,
        of_tensor: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
        of_constant: impl FnOnce(f64) -> f64,
    ) -> TensorNumber {
        TensorNumber(match self {
            Self::Tensor(x) => Self::of(of_tensor(&x)),
            Self::Constant(x) => Self::Constant(of_constant(x)),
            failed @ Self::Failed(_) => failed,
        })
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:tt, $with_constant:expr, $of_constant:expr);* $(;)?) => {$(
        impl $trait for TensorNumber {
            type Output = Self;

            fn $method(self, other: Self) -> Self {
                Self(match (self.0, other.0) {
                    (Value::Tensor(a), Value::Tensor(b)) => Value::of(&a $op &b),
                    (Value::Constant(a), Value::Constant(b)) => Value::Constant(a $op b),
                    (Value::Tensor(a), Value::Constant(b)) => Value::of($with_constant(&a, b)),
                    (Value::Constant(a), Value::Tensor(b)) => Value::of($of_constant(a, &b)),
                    (failed @ Value::Failed(_), _) | (_, failed) => failed,
                })
            }
        }

        impl $trait<f64> for TensorNumber {
            type Output = Self;

            fn $method(self, other: f64) -> Self {
                self.$method(Self::constant(other))
            }
        }
    )*};
}

operators! {
    Add add +, |a: &Tensor, b| a.affine(1., b), |a, b: &Tensor| b.affine(1., a);
    Sub sub -, |a: &Tensor, b: f64| a.affine(1., -b), |a, b: &Tensor| b.affine(-1., a);
    Mul mul *, |a: &Tensor, b| a.affine(b, 0.), |a, b: &Tensor| b.affine(a, 0.);
    Div div /, |a: &Tensor, b| a / b, |a, b: &Tensor| b.recip()?.affine(a, 0.);
}

impl Neg for TensorNumber {
    type Output = Self;

    fn neg(self) -> Self {
        self.0.unary(Tensor::neg, |x| -x)
    }
}

impl Number for TensorNumber {
    fn constant(value: f64) -> Self {
        Self(Value::Constant(value))
    }

    fn sqrt(self) -> Self {
        self.0.unary(Tensor::sqrt, f64::sqrt)
    }

    fn abs(self) -> Self {
        self.0.unary(Tensor::abs, f64::abs)
    }

    fn powf(self, exponent: f64) -> Self {
        self.0.unary(|x| x.powf(exponent), |x| x.powf(exponent))
    }

    fn tanh(self) -> Self {
        self.0.unary(Tensor::tanh, f64::tanh)
    }

    fn exp(self) -> Self {
        self.0.unary(Tensor::exp, f64::exp)
    }

    fn ln(self) -> Self {
        self.0.unary(Tensor::log, f64::ln)
    }

    fn if_less(self, other: Self, then: Self, otherwise: Self) -> Self {
        choose([self, other, then, otherwise], |a, b| a < b, |a, b| a.lt(b))
    }

    fn if_at_most(self, other: Self, then: Self, otherwise: Self) -> Self {
        choose([self, other, then, otherwise], |a, b| a <= b, |a, b| a.le(b))
    }
}

/// The third of four numbers where the first two compare, elsewhere the fourth.
fn choose(
    all: [TensorNumber; 4],
    of_constants: impl FnOnce(f64, f64) -> bool,
    of_tensors: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> TensorNumber {
    let like = all.iter().find_map(|number| match &number.0 {
        Value::Tensor(tensor) => Some(tensor.clone()),
        _ => None,
    });
    let Some(like) = like else {
        let [a, b, then, otherwise] = all;
        return match (a.0, b.0) {
            (Value::Constant(a), Value::Constant(b)) if of_constants(a, b) => then,
            (Value::Constant(_), Value::Constant(_)) => otherwise,
            (failed @ Value::Failed(_), _) | (_, failed) => TensorNumber(failed),
        };
    };
    let select = || {
        let [a, b, then, otherwise] = all.map(|number| number.0.full(&like));
        of_tensors(&a?, &b?)?.where_cond(&then?, &otherwise?)
    };
    TensorNumber(Value::of(select()))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// A function that uses every operation, with constants on both sides.
    fn function<N: Number>(x: N, y: N) -> N {
        let one = N::constant(1.);
        let a = (x.clone() * 2. + 1.) / (y.clone() * y.clone() + 1.) - 0.5;
        let b = (one.clone() - x.clone()) * (one.clone() / (y.clone().abs() + 1.))
            + (N::constant(2.) + x.clone());
        let c = (x.clone().tanh().exp() + 1.).ln().sqrt().powf(1.5);
        let d = (-x.clone()).max(y.clone()).min(N::constant(0.75)).sign();
        let d = d + x.clone().exp_m1().mul_add(y.clone().abs().ln_1p(), y.clone().sigmoid());
        let d = y.clone().if_at_most(x.clone(), d.clone(), d * 2.);
        let e = N::constant(1.).if_less(N::constant(2.), a, b.clone());
        x.clone().if_less(y, e, b) + c * d - x / 3.
    }

    #[test]
    fn elements_are_those_of_single_numbers() -> Result<()> {
        let (x, y) = ([-1.5f64, 0., 0.25, 3.], [0.5f64, -2., 0.25, 1.]);
        let [a, b] = [&x, &y].map(|values| Tensor::new(values, &Device::Cpu).map(|x| TensorNumber::new(&x)));
        let found = function(a?, b?).into_tensor(&Tensor::new(&x, &Device::Cpu)?)?.to_vec1::<f64>()?;
        for ((x, y), found) in x.into_iter().zip(y).zip(found) {
            let expected = function(treex_kernels::number::Lane(x), treex_kernels::number::Lane(y)).0;
            assert!((found - expected).abs() < 1e-14, "{found} {expected}");
        }
        Ok(())
    }

    #[test]
    fn the_first_error_is_reported() -> Result<()> {
        let [x, y] = [2, 3].map(|len| Tensor::ones(len, candle_core::DType::F32, &Device::Cpu));
        let (x, y) = (x?, y?);
        let sum = TensorNumber::new(&x) + TensorNumber::new(&y);
        let error = (sum.clone().sqrt() * 2.).max(sum).into_tensor(&x).expect_err("shapes differ");
        assert!(error.to_string().contains("shape mismatch"), "{error}");
        Ok(())
    }
}
