//! The types of numbers in matrices, and those that products are computed in.

use half::{bf16, f16};

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
            Self::F16 => f16::from_bits(bits as u16).to_f64(),
            Self::Bf16 => bf16::from_bits(bits as u16).to_f64(),
            Self::F32 => f32::from_bits(bits as u32).into(),
            Self::F64 => f64::from_bits(bits),
        }
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
    /// Rounded to the type in memory, as bytes.
    fn write(self, to: Type, bytes: &mut [u8]);
}

impl Element for f32 {
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

    fn write(self, to: Type, bytes: &mut [u8]) {
        match to {
            Type::F16 => bytes.copy_from_slice(&f16::from_f32(self).to_le_bytes()),
            Type::Bf16 => bytes.copy_from_slice(&bf16::from_f32(self).to_le_bytes()),
            Type::F32 => bytes.copy_from_slice(&self.to_le_bytes()),
            Type::F64 => bytes.copy_from_slice(&f64::from(self).to_le_bytes()),
        }
    }
}

impl Element for f64 {
    const ZERO: Self = 0.0;

    fn from_f64(value: f64) -> Self {
        value
    }

    fn multiply_add(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }

    fn multiply(self, b: Self) -> Self {
        self * b
    }

    fn write(self, to: Type, bytes: &mut [u8]) {
        match to {
            Type::F16 => bytes.copy_from_slice(&f16::from_f64(self).to_le_bytes()),
            Type::Bf16 => bytes.copy_from_slice(&bf16::from_f64(self).to_le_bytes()),
            Type::F32 => bytes.copy_from_slice(&(self as f32).to_le_bytes()),
            Type::F64 => bytes.copy_from_slice(&self.to_le_bytes()),
        }
    }
}

impl Element for f16 {
    const ZERO: Self = Self::ZERO;

    fn from_f64(value: f64) -> Self {
        Self::from_f64(value)
    }

    fn multiply_add(self, b: Self, c: Self) -> Self {
        // Exact in f64 but for sums of very different sizes, whose rounding there does not change the one here.
        Self::from_f64(self.to_f64().mul_add(b.to_f64(), c.to_f64()))
    }

    fn multiply(self, b: Self) -> Self {
        Self::from_f64(self.to_f64() * b.to_f64())
    }

    fn write(self, to: Type, bytes: &mut [u8]) {
        self.to_f64().write(to, bytes);
    }
}
