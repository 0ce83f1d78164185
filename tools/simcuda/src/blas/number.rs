//! The types of numbers in matrices, and those that products are computed in.

use half::f16;

use crate::ptx::soft::{self, Rounding};

/// A type of numbers in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// 16 bits, of IEEE 754.
    F16,
    /// 16 bits, the upper half of `F32`.
    Bf16,
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

impl Type {
    /// Bytes of a number.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// A number from its bytes; `f64` holds all of them.
    pub(super) fn read(self, bytes: &[u8]) -> f64 {
        let mut all = [0; 8];
        all[..self.size()].copy_from_slice(&bytes[..self.size()]);
        let bits = u64::from_le_bytes(all);
        match self {
            Self::F16 => soft::F16.decode(bits),
            Self::Bf16 => soft::BF16.decode(bits),
            Self::F32 => f32::from_bits(bits as u32).into(),
            Self::F64 => f64::from_bits(bits),
        }
    }

    /// The bytes of a number, rounded once.
    pub(super) fn write(self, value: f64, bytes: &mut [u8]) {
        let bits = match self {
            Self::F16 => soft::F16.encode(value, Rounding::NearestEven, false),
            Self::Bf16 => soft::BF16.encode(value, Rounding::NearestEven, false),
            Self::F32 => (value as f32).to_bits().into(),
            Self::F64 => value.to_bits(),
        };
        bytes.copy_from_slice(&bits.to_le_bytes()[..self.size()]);
    }
}

/// The type that a product is computed in, which `alpha` and `beta` have too.
pub trait Element: Copy + 'static {
    /// 0.
    const ZERO: Self;
    /// Rounded to the type.
    fn from_f64(value: f64) -> Self;
    /// `self * b + c`, rounded once.
    fn multiply_add(self, b: Self, c: Self) -> Self;
    /// `self * b`, rounded.
    fn multiply(self, b: Self) -> Self;
    /// As `f64`, which holds it.
    fn to_f64(self) -> f64;
}

macro_rules! elements {
    ($($type:ident),*) => {$(
        impl Element for $type {
            const ZERO: Self = 0.0;

            fn from_f64(value: f64) -> Self {
                value as Self
            }

            fn multiply_add(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }

            fn multiply(self, b: Self) -> Self {
                self * b
            }

            fn to_f64(self) -> f64 {
                self.into()
            }
        }
    )*};
}

elements!(f32, f64);

impl Element for f16 {
    const ZERO: Self = Self::ZERO;

    fn from_f64(value: f64) -> Self {
        // `half` rounds by way of `f32`.
        Self::from_bits(soft::F16.encode(value, Rounding::NearestEven, false) as u16)
    }

    fn multiply_add(self, b: Self, c: Self) -> Self {
        // Exact in f64 but for sums of very different sizes, whose rounding there does not change the one here.
        <Self as Element>::from_f64(Self::to_f64(self).mul_add(b.to_f64(), c.to_f64()))
    }

    fn multiply(self, b: Self) -> Self {
        <Self as Element>::from_f64(Self::to_f64(self) * b.to_f64())
    }

    fn to_f64(self) -> f64 {
        Self::to_f64(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little more than half way between two numbers: the way through `f32` ends half way, and takes the even one.
    #[test]
    fn numbers_are_rounded_once() {
        for (of, half_way, expected) in [(Type::F16, 11, 0x3c01u16), (Type::Bf16, 8, 0x3f81)] {
            let mut bytes = [0; 2];
            of.write(1.0 + 0.5f64.powi(half_way) + 0.5f64.powi(40), &mut bytes);
            assert_eq!(u16::from_le_bytes(bytes), expected, "{of:?}");
        }
        let above = 1.0 + 0.5f64.powi(11) + 0.5f64.powi(40);
        assert_eq!(<f16 as Element>::from_f64(above).to_bits(), 0x3c01);
    }
}
