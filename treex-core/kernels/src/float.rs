//! The element types of kernels.

use std::fmt::Debug;

pub use half::{bf16, f16};

use super::math::Real;
use super::sealed::Sealed;

/// A floating-point element type, and the type that kernels compute in: itself, or `f32` for the 16-bit types.
///
/// Unlike those of `half`, the conversions have no branches and no CPU feature detection, so that loops around them
/// are vectorized.
pub trait Float: Sealed + Copy + Default + PartialOrd + Debug + Send + Sync + 'static {
    /// The computing type.
    type Wide: Real;

    /// Converts to the computing type, exactly.
    fn widen(self) -> Self::Wide;
    /// Rounds to nearest, ties to even.
    fn narrow(wide: Self::Wide) -> Self;
}

/// Implements the types that kernels compute in directly.
macro_rules! as_it_is {
    ($($type:ty),*) => {$(
        impl Float for $type {
            type Wide = Self;

            #[inline(always)]
            fn widen(self) -> Self {
                self
            }

            #[inline(always)]
            fn narrow(wide: Self) -> Self {
                wide
            }
        }
    )*};
}

as_it_is!(f32, f64);

const SIGN: u32 = 1 << 31;
const INFINITY: u32 = f32::INFINITY.to_bits();

impl Float for bf16 {
    type Wide = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(wide: f32) -> Self {
        let bits = wide.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
        // Rounding could turn a NaN into an infinity, so the first fraction bit is set instead.
        let bits = if bits & !SIGN > INFINITY { bits | 1 << 22 } else { rounded };
        Self::from_bits((bits >> 16) as u16)
    }
}

/// By shifting bits: compared with `f32`, the fraction is 13 bits shorter and the exponent 112 less. Subnormal numbers
/// are multiples of 2^-24, the spacing of `f32` between 1/2 and 1.
impl Float for f16 {
    type Wide = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        let half = u32::from(self.to_bits());
        let magnitude = (half & 0x7FFF) << 13;
        let least = f32::from_bits(113 << 23);
        let bits = match magnitude >> 23 {
            0 => (f32::from_bits(magnitude + (113 << 23)) - least).to_bits(),
            31 => magnitude + (224 << 23),
            _ => magnitude + (112 << 23),
        };
        f32::from_bits(bits | (half & 0x8000) << 16)
    }

    #[inline(always)]
    fn narrow(wide: f32) -> Self {
        let magnitude = wide.to_bits() & !SIGN;
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xFFF + (magnitude >> 13 & 1)) >> 13;
        let half = if magnitude < 113 << 23 { subnormal } else { normal };
        let half = if magnitude >= 143 << 23 { 0x7C00 } else { half };
        let half = if magnitude > INFINITY { 0x7E00 | magnitude >> 13 & 0x3FF } else { half };
        Self::from_bits((half | (wide.to_bits() & SIGN) >> 16) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 16-bit numbers, and around each the `f32` numbers at which rounding changes.
    #[test]
    fn equal_to_half() {
        for bits in 0..=u16::MAX {
            let (x, y) = (f16::from_bits(bits), bf16::from_bits(bits));
            let (wide_x, wide_y) = (x.widen(), y.widen());
            assert!(wide_x.to_bits() == x.to_f32().to_bits() || x.is_nan() && wide_x.is_nan());
            assert!(wide_y.to_bits() == y.to_f32().to_bits() || y.is_nan() && wide_y.is_nan());
            for (wide, step) in [(wide_x, 1u32 << 12), (wide_y, 1 << 15)] {
                for offset in [0, 1, step - 1, step, step + 1, 2 * step - 1] {
                    let wide = f32::from_bits(wide.to_bits().wrapping_add(offset));
                    assert_eq!(f16::narrow(wide).to_bits(), f16::from_f32(wide).to_bits(), "{wide:e}");
                    assert_eq!(bf16::narrow(wide).to_bits(), bf16::from_f32(wide).to_bits(), "{wide:e}");
                }
            }
            // Halfway between subnormal numbers, where the spacing of `f32` is smaller.
            let halfway = (f32::from(bits & 0x7FF) + 0.5) * 2f32.powi(-24);
            for wide in [halfway, halfway.next_up(), halfway.next_down(), -halfway] {
                assert_eq!(f16::narrow(wide).to_bits(), f16::from_f32(wide).to_bits(), "{wide:e}");
            }
        }
    }
}
