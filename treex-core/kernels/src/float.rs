//! The element types that kernels compute with.

use std::fmt::Debug;

pub use half::{bf16, f16};

use super::math::{Real, Sealed};

/// A floating-point element, and the type that a kernel computes in: itself, or `f32` for the 16-bit types.
///
/// The conversions are free of branches and of questions to the processor, unlike those of `half`, so that a
/// loop around them becomes vector instructions.
pub trait Float: Sealed + Copy + Default + PartialOrd + Debug + Send + Sync + 'static {
    /// The type to compute in.
    type Wide: Real;

    /// The same number in the type to compute in.
    fn widen(self) -> Self::Wide;
    /// The nearest number, of two the even one.
    fn narrow(wide: Self::Wide) -> Self;
}

/// The types that are computed with as they are.
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
        // Rounding could carry a NaN into an infinity: its first fraction bit is set instead.
        let bits = if bits & !SIGN > INFINITY { bits | 1 << 22 } else { rounded };
        Self::from_bits((bits >> 16) as u16)
    }
}

/// By the places of the bits: a fraction is 13 bits shorter than in `f32`, and an exponent 112 less. Subnormal
/// numbers are steps of 2^-24, which are also the steps of an `f32` from 1/2 to 1.
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

    /// All numbers of 16 bits, and around each one all that rounds differently.
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
            // Halfway between subnormal numbers, where the steps of `f32` are smaller.
            let halfway = (f32::from(bits & 0x7FF) + 0.5) * 2f32.powi(-24);
            for wide in [halfway, halfway.next_up(), halfway.next_down(), -halfway] {
                assert_eq!(f16::narrow(wide).to_bits(), f16::from_f32(wide).to_bits(), "{wide:e}");
            }
        }
    }
}
