//! The floating-point types of the samplers, with the arithmetic of XLA on a CPU.

use std::f64::consts::SQRT_2;
use std::ops::Neg;

use half::{bf16, f16};

use treex_kernels::xla_math;

use super::math64;
use treex_kernels::float::Float;

use crate::autograd::Element;

/// An element type of the continuous samplers. The 16-bit types round after every operation, and compute functions
/// such as `log` in `f32`.
pub(super) trait Real: Element + Neg<Output = Self> {
    /// The smallest normal number.
    const TINY: Self;
    /// The distance from 1 to the next larger number.
    const EPSILON: Self;

    /// Uniform on [0, 1): random bits become the fraction of a number in [1, 2), from which 1 is subtracted.
    fn unit(block: [u32; 2]) -> Self;
    /// Converts a number to this type.
    fn of(value: f64) -> Self;
    /// `self * factor + offset`, rounded as in XLA.
    fn scale(self, factor: Self, offset: Self) -> Self;
    /// `self / sqrt(2)`, which XLA computes as a product with the rounded 1 / sqrt(2).
    #[inline(always)]
    fn over_sqrt_2(self) -> Self {
        self * (Self::one() / Self::of(SQRT_2))
    }
    fn above(self) -> Self;
    fn below(self) -> Self;
    fn erf(self) -> Self;
    fn erf_inv(self) -> Self;
    fn log(self) -> Self;
    fn log1p(self) -> Self;
    fn tan(self) -> Self;

    /// Flushes a subnormal number to a 0 of its sign, as XLA does; not in `f16`, whose subnormal numbers are normal in
    /// `f32`, in which XLA computes.
    fn flushed(self) -> Self {
        if self > -Self::TINY && self < Self::TINY { self * Self::zero() } else { self }
    }

    #[inline(always)]
    fn at_least(self, low: Self) -> Self {
        // Unlike `max`, this keeps NaN, as in JAX.
        if self.widen() < low.widen() { low } else { self }
    }

    #[inline(always)]
    fn at_most(self, high: Self) -> Self {
        if self.widen() > high.widen() { high } else { self }
    }
}

impl Real for f32 {
    const TINY: Self = Self::MIN_POSITIVE;
    const EPSILON: Self = Self::EPSILON;

    #[inline(always)]
    fn unit([a, b]: [u32; 2]) -> Self {
        Self::from_bits((a ^ b) >> 9 | 1f32.to_bits()) - 1.
    }

    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn scale(self, factor: Self, offset: Self) -> Self {
        self.mul_add(factor, offset)
    }

    fn above(self) -> Self {
        self.next_up()
    }

    fn below(self) -> Self {
        self.next_down()
    }

    #[inline(always)]
    fn erf(self) -> Self {
        xla_math::erf(self)
    }

    #[inline(always)]
    fn erf_inv(self) -> Self {
        xla_math::erf_inv(self)
    }

    #[inline(always)]
    fn log(self) -> Self {
        xla_math::log(self)
    }

    #[inline(always)]
    fn log1p(self) -> Self {
        xla_math::log1p(self)
    }

    #[inline(always)]
    fn tan(self) -> Self {
        self.tan()
    }
}

impl Real for f64 {
    const TINY: Self = Self::MIN_POSITIVE;
    const EPSILON: Self = Self::EPSILON;

    #[inline(always)]
    fn unit([high, low]: [u32; 2]) -> Self {
        let bits = u64::from(high) << 32 | u64::from(low);
        Self::from_bits(bits >> 12 | 1f64.to_bits()) - 1.
    }

    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn scale(self, factor: Self, offset: Self) -> Self {
        self.mul_add(factor, offset)
    }

    fn above(self) -> Self {
        self.next_up()
    }

    fn below(self) -> Self {
        self.next_down()
    }

    #[inline(always)]
    fn erf(self) -> Self {
        candle_core::cpu::erf::erf_f64(self)
    }

    #[inline(always)]
    fn erf_inv(self) -> Self {
        math64::erf_inv(self)
    }

    #[inline(always)]
    fn log(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn log1p(self) -> Self {
        math64::log1p(self)
    }

    #[inline(always)]
    fn tan(self) -> Self {
        self.tan()
    }
}

/// `$bits` random bits, of which the highest `$fraction` are used.
macro_rules! sixteen_bits {
    ($type:ident, $bits:literal, $fraction:literal, $($own:item)?) => {
        impl Real for $type {
            $($own)?

            const TINY: Self = Self::MIN_POSITIVE;
            const EPSILON: Self = Self::EPSILON;

            #[inline(always)]
            fn unit([a, b]: [u32; 2]) -> Self {
                let bits = ((a ^ b) & ((1 << $bits) - 1)) >> ($bits - $fraction);
                Self::narrow(Self::from_bits(bits as u16 | Self::ONE.to_bits()).widen() - 1.)
            }

            #[inline(always)]
            fn of(value: f64) -> Self {
                // Through `f32`, as JAX converts a Python float.
                Self::narrow(value as f32)
            }

            #[inline(always)]
            fn scale(self, factor: Self, offset: Self) -> Self {
                let product = Self::narrow(self.widen() * factor.widen());
                Self::narrow(product.widen() + offset.widen())
            }

            fn above(self) -> Self {
                if self.is_nan() || self == Self::INFINITY {
                    return self;
                }
                Self::from_bits(match self.to_bits() {
                    0 | 0x8000 => 1,
                    positive if positive < 0x8000 => positive + 1,
                    negative => negative - 1,
                })
            }

            fn below(self) -> Self {
                -(-self).above()
            }

            #[inline(always)]
            fn erf(self) -> Self {
                Self::narrow(xla_math::erf(self.widen()))
            }

            #[inline(always)]
            fn erf_inv(self) -> Self {
                Self::narrow(xla_math::erf_inv(self.widen()))
            }

            #[inline(always)]
            fn log(self) -> Self {
                Self::narrow(xla_math::log(self.widen()))
            }

            #[inline(always)]
            fn log1p(self) -> Self {
                Self::narrow(xla_math::log1p(self.widen()))
            }

            #[inline(always)]
            fn tan(self) -> Self {
                Self::narrow(self.widen().tan())
            }
        }
    };
}

sixteen_bits! {
    f16, 16, 10,
    fn flushed(self) -> Self {
        self
    }
}
sixteen_bits! {
    bf16, 8, 7,
    // XLA has no `bf16` arithmetic: it multiplies in `f32`, which is equivalent to a division.
    #[inline(always)]
    fn over_sqrt_2(self) -> Self {
        self / Self::of(SQRT_2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours() {
        assert_eq!(f16::ONE.above() - f16::ONE, f16::EPSILON);
        assert_eq!(bf16::ONE.above() - bf16::ONE, bf16::EPSILON);
        assert_eq!(f16::ZERO.above().to_bits(), 1);
        assert_eq!(f16::NEG_ZERO.above().to_bits(), 1);
        assert_eq!(f16::ZERO.below().to_bits(), 0x8001);
        assert_eq!((-bf16::ONE).above().to_f32(), -1. + 2f32.powi(-8));
        assert_eq!(f16::INFINITY.above(), f16::INFINITY);
        assert_eq!(f16::INFINITY.below(), f16::MAX);
        assert_eq!(bf16::NEG_INFINITY.above(), bf16::MIN);
        assert!(bf16::NAN.above().is_nan() && f16::NAN.below().is_nan());
    }

    #[test]
    fn smallest_and_largest_units() {
        assert_eq!(<f32 as Real>::unit([0, 0]), 0.);
        assert_eq!(<f32 as Real>::unit([0, u32::MAX]), 1. - f32::EPSILON);
        assert_eq!(<f64 as Real>::unit([0, 0]), 0.);
        assert_eq!(<f64 as Real>::unit([u32::MAX; 2]), 1. - f64::EPSILON);
        assert_eq!(<f16 as Real>::unit([0, u32::MAX]), f16::ONE - f16::EPSILON);
        assert_eq!(<bf16 as Real>::unit([0, u32::MAX]), bf16::ONE - bf16::EPSILON);
        assert_eq!(<bf16 as Real>::unit([0, 0xFFFF_FF01]), bf16::ZERO);
    }
}
