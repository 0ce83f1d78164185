//! The number that elementwise functions are generic over.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::math::Real;

/// A number that an elementwise function computes with: a lane of a vector register ([`Lane`]), a whole tensor, or an
/// [`Expression`](crate::expression::Expression) that becomes a device kernel. A function is generic over it, so its
/// mathematics is written once.
pub trait Number:
    Clone
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Add<f64, Output = Self>
    + Sub<f64, Output = Self>
    + Mul<f64, Output = Self>
    + Div<f64, Output = Self>
{
    /// A constant of the function.
    fn constant(value: f64) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// The absolute value.
    fn abs(self) -> Self;

    /// `self` to a constant power.
    fn powf(self, exponent: f64) -> Self;

    /// The hyperbolic tangent.
    fn tanh(self) -> Self;

    /// The exponential.
    fn exp(self) -> Self;

    /// The natural logarithm.
    fn ln(self) -> Self;

    /// `then` where `self < other`, elsewhere `otherwise`, also if either is NaN.
    fn if_less(self, other: Self, then: Self, otherwise: Self) -> Self;

    /// `then` where `self <= other`, elsewhere `otherwise`, also if either is NaN.
    fn if_at_most(self, other: Self, then: Self, otherwise: Self) -> Self;

    /// `self * factor + addend`, rounded once where that is as fast.
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self * factor + addend
    }

    /// `exp(self) - 1`, accurate near 0.
    #[inline(always)]
    fn exp_m1(self) -> Self {
        (self.clone() * 0.5).tanh() * (self.exp() + 1.)
    }

    /// `ln(1 + self)` of a number that is not negative, accurate near 0.
    #[inline(always)]
    fn ln_1p(self) -> Self {
        let sum = self.clone() + 1.;
        let lost = self - (sum.clone() - 1.);
        sum.clone().ln() + lost / sum
    }

    /// `1 / (1 + exp(-self))`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        // By exp(-|x|), which cannot overflow; both tails are accurate.
        let small = (-self.clone().abs()).exp();
        let numerator = self.if_less(Self::constant(0.), small.clone(), Self::constant(1.));
        numerator / (small + 1.)
    }

    /// The square.
    #[inline(always)]
    fn sqr(self) -> Self {
        self.clone() * self
    }

    /// The maximum; NaN if one of both is.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        let not_less = other.clone().if_less(self.clone(), self.clone(), equal_or_nan(&self, &other));
        self.if_less(other.clone(), other, not_less)
    }

    /// The larger of `self` and a constant; NaN if `self` is NaN.
    #[inline(always)]
    fn at_least(self, least: f64) -> Self {
        self.clone().if_less(Self::constant(least), Self::constant(least), self)
    }

    /// The minimum; NaN if one of both is.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        let not_less = other.clone().if_less(self.clone(), other.clone(), equal_or_nan(&self, &other));
        self.clone().if_less(other, self, not_less)
    }

    /// -1, 0 or 1; NaN if `self` is NaN.
    #[inline(always)]
    fn sign(self) -> Self {
        let zero = Self::constant(0.);
        // 0 * self is 0 or NaN.
        let neither = self.clone() * 0.;
        let positive = zero.clone().if_less(self.clone(), Self::constant(1.), neither);
        self.if_less(zero, Self::constant(-1.), positive)
    }

    /// `then` if `self` is NaN, else `otherwise`.
    #[inline(always)]
    fn if_nan(self, then: Self, otherwise: Self) -> Self {
        let negative = self.clone().if_less(Self::constant(0.), otherwise.clone(), then);
        Self::constant(-1.).if_less(self, otherwise, negative)
    }
}

/// Either of two equal numbers, NaN if one is.
#[inline(always)]
fn equal_or_nan<N: Number>(a: &N, b: &N) -> N {
    a.clone() * 0.5 + b.clone() * 0.5
}

/// One element in a register, with the functions of [`Real`], which are vectorized.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
pub struct Lane<T>(pub T);

macro_rules! operators {
    ($($trait:ident $method:ident $operator:tt),*) => {$(
        impl<R: Real> $trait for Lane<R> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(self.0 $operator other.0)
            }
        }

        impl<R: Real> $trait<f64> for Lane<R> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: f64) -> Self {
                Self(self.0 $operator R::of(other))
            }
        }
    )*};
}

operators!(Add add +, Sub sub -, Mul mul *, Div div /);

impl<R: Real> Neg for Lane<R> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

/// The functions of [`Real`] of the same name.
macro_rules! of_real {
    ($($name:ident)*) => {$(
        #[inline(always)]
        fn $name(self) -> Self {
            Self(self.0.$name())
        }
    )*};
}

impl<R: Real> Number for Lane<R> {
    of_real!(sqrt abs tanh exp exp_m1 ln ln_1p);

    #[inline(always)]
    fn constant(value: f64) -> Self {
        Self(R::of(value))
    }

    #[inline(always)]
    fn powf(self, exponent: f64) -> Self {
        Self(self.0.powf(R::of(exponent)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(self.0.mul_add(factor.0, addend.0))
    }

    #[inline(always)]
    fn if_less(self, other: Self, then: Self, otherwise: Self) -> Self {
        if self.0 < other.0 { then } else { otherwise }
    }

    #[inline(always)]
    fn if_at_most(self, other: Self, then: Self, otherwise: Self) -> Self {
        if self.0 <= other.0 { then } else { otherwise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maximum_and_minimum() {
        let (inf, nan, large) = (f32::INFINITY, f32::NAN, f32::MAX);
        for (a, b) in
            [(1., 2.), (2., 1.), (3., 3.), (-inf, inf), (inf, inf), (-inf, -inf), (large, large), (0., 0.)]
        {
            assert_eq!(Number::max(Lane(a), Lane(b)).0, f32::max(a, b));
            assert_eq!(Number::min(Lane(a), Lane(b)).0, f32::min(a, b));
        }
        for (a, b) in [(nan, 1.), (1., nan), (nan, nan), (inf, nan), (nan, -inf)] {
            assert!(Number::max(Lane(a), Lane(b)).0.is_nan() && Number::min(Lane(a), Lane(b)).0.is_nan());
        }
    }
}
