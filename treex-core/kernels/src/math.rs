//! Mathematical functions for kernels, without branches and library calls, so that loops around them are vectorized.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::sealed::Sealed;
use crate::xla_math;

/// A computing type: the [`Wide`](super::float::Float::Wide) type of an element, `f32` or `f64`.
///
/// In `f32` each function but `powf` is within 3 units in the last place over its whole domain, infinities included; NaN
/// stays NaN. In `f64`, the standard library's functions.
pub trait Real:
    Sealed
    + Copy
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// Rounds to this type.
    fn of(value: f64) -> Self;
    /// Converts to `f64`.
    fn to_f64(self) -> f64;
    /// `self · a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The magnitude.
    fn abs(self) -> Self;
    /// The exponential.
    fn exp(self) -> Self;
    /// `exp(x) - 1`, accurate near 0.
    fn exp_m1(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// `ln(1 + x)`, accurate near 0.
    fn ln_1p(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The power, by the standard library.
    fn powf(self, exponent: Self) -> Self;

    /// The larger one; `other` if `self` is NaN.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    /// `1 / (1 + exp(-x))`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        // By exp(-|x|), which cannot overflow; both tails are accurate.
        let one = Self::of(1.);
        let small = (-self.abs()).exp();
        let numerator = if self < Self::of(0.) { small } else { one };
        numerator / (one + small)
    }
}

/// The standard library's functions of the same name.
macro_rules! standard {
    ($($name:ident($($argument:ident),*))*) => {$(
        #[inline(always)]
        fn $name(self $(, $argument: Self)*) -> Self {
            self.$name($($argument),*)
        }
    )*};
}

/// `exp(x)` as `(1 + rest) · a · b`, where `a` and `b` are powers of 2: two, each a normal number, so that
/// subnormal results are rounded correctly.
#[inline(always)]
fn powers(x: f32) -> (f32, [f32; 2]) {
    // Beyond this range the result is 0 or infinite anyway.
    let x = if x > 89. { 89. } else { x };
    let x = if x < -104. { -104. } else { x };
    // x = n ln 2 + r, |r| <= ln 2 / 2. Adding 3 · 2^22 rounds to an integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let tail = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5]
        .into_iter()
        .reduce(|sum: f32, c| sum.mul_add(r, c))
        .unwrap_or_default();
    let n = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    (tail.mul_add(r * r, r), [power(half), power(n.wrapping_sub(half))])
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.into()
    }

    standard!(mul_add(a, b) sqrt() abs() powf(exponent));

    #[inline(always)]
    fn exp(self) -> Self {
        let (rest, [a, b]) = powers(self);
        (rest + 1.) * a * b
    }

    #[inline(always)]
    fn exp_m1(self) -> Self {
        let (rest, [a, b]) = powers(self);
        let scale = a * b;
        // An infinite scale times 0 would be NaN.
        if self > 88. { (rest + 1.) * a * b } else { rest.mul_add(scale, scale - 1.) }
    }

    #[inline(always)]
    fn ln(self) -> Self {
        xla_math::log(self)
    }

    #[inline(always)]
    fn ln_1p(self) -> Self {
        xla_math::log1p(self)
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        let x = self.abs();
        // Near 0, x + x^3 P(x^2) with a fitted polynomial P.
        let square = x * x;
        let p = [2.222_614_9e-3, -8.257_983e-3, 2.173_076_8e-2, -5.395_18e-2, 0.133_332_42, -0.333_333_3]
            .into_iter()
            .reduce(|sum: f32, c| sum.mul_add(square, c))
            .unwrap_or_default();
        let near = (p * square).mul_add(x, x);
        let far = 1. - 2. / (Real::exp(x + x) + 1.);
        (if x < 0.6 { near } else { far }).copysign(self)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    standard!(mul_add(a, b) sqrt() abs() exp() exp_m1() ln() ln_1p() tanh() powf(exponent));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    /// A function in `f32` and its oracle in `f64`.
    type Pair = (&'static str, fn(f32) -> f32, fn(f64) -> f64);

    const FUNCTIONS: [Pair; 6] = [
        ("exp", Real::exp, f64::exp),
        ("exp_m1", Real::exp_m1, f64::exp_m1),
        ("ln_1p", Real::ln_1p, f64::ln_1p),
        ("tanh", Real::tanh, f64::tanh),
        ("ln", Real::ln, f64::ln),
        ("sigmoid", Real::sigmoid, |x| 1. / (1. + (-x).exp())),
    ];

    /// Every 101st number, both signs, the limits and NaN.
    #[test]
    fn accurate_to_3_ulp() {
        let ends = [
            0.,
            -0.,
            f32::MIN_POSITIVE,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            88.722_84,
            -87.4,
            -103.9,
        ];
        for (name, ours, exact) in FUNCTIONS {
            let mut worst = (0., 0.);
            for x in (0..=u32::MAX).step_by(101).map(f32::from_bits).chain(ends) {
                // `ln` of a subnormal number returns that of the smallest normal number.
                if name == "ln" && x.abs() < f32::MIN_POSITIVE && x != 0. {
                    continue;
                }
                let (found, wanted) = (ours(x), exact(x.into()));
                let rounded = wanted as f32;
                if rounded.is_nan() || !rounded.is_finite() || rounded == 0. {
                    assert!(found == rounded || found.is_nan() && rounded.is_nan(), "{name}({x}) = {found}");
                    continue;
                }
                let unit = f64::from(rounded.abs().next_up() - rounded.abs());
                let units = (f64::from(found) - wanted).abs() / unit;
                if units > worst.0 {
                    worst = (units, x);
                }
            }
            assert!(worst.0 <= 3., "{name}({}) is {} units away", worst.1, worst.0);
        }
    }

    #[test]
    fn equal_on_every_instruction_set() {
        struct All<'a>(&'a [f32], &'a mut Vec<f32>);
        impl super::super::isa::Kernel for All<'_> {
            type Output = ();

            #[inline(always)]
            fn run(self) {
                for &x in self.0 {
                    self.1.extend([Real::exp(x), Real::tanh(x), Real::ln(x), Real::sigmoid(x)]);
                }
            }
        }
        let x: Vec<f32> = (-2000..2000).map(|i| i as f32 * 0.0613).collect();
        let results: Vec<Vec<u32>> = Isa::available()
            .map(|level| {
                let mut results = Vec::new();
                level.run(All(&x, &mut results));
                results.into_iter().map(f32::to_bits).collect()
            })
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
