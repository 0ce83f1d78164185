//! The types of PTX, and how a value of each lies in a register.
//!
//! A register is 64 bits wide here, whatever its type. Who writes one may leave anything above the bits of its type; who
//! reads one takes only the bits of the instruction's type.

/// A type as it is written in an instruction or a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    U16x2,
    S16x2,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
    Tf32,
    E4m3x2,
    E5m2x2,
}

impl Type {
    /// The type of this name, without its point.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "pred" => Self::Pred,
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "b128" => Self::B128,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "u16x2" => Self::U16x2,
            "s16x2" => Self::S16x2,
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "tf32" => Self::Tf32,
            "e4m3x2" => Self::E4m3x2,
            "e5m2x2" => Self::E5m2x2,
            _ => return None,
        })
    }

    /// How many bytes a value has.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Pred | Self::B8 | Self::U8 | Self::S8 => 1,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::Bf16 | Self::E4m3x2 | Self::E5m2x2 => 2,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 8,
            Self::B128 => 16,
            _ => 4,
        }
    }

    /// How many bits a value has.
    pub(crate) fn bits(self) -> u32 {
        self.bytes() as u32 * 8
    }

    /// Whether it is a signed integer.
    pub(crate) fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    /// Whether it is `.bX`.
    pub(crate) fn is_bits(self) -> bool {
        matches!(self, Self::B8 | Self::B16 | Self::B32 | Self::B64 | Self::B128)
    }

    /// Whether it is one of the types of moves, selections and memory: bits, integers, `.f32` and `.f64`.
    pub(crate) fn is_plain(self) -> bool {
        self.is_bits() || self.is_integer() || matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it is `.uX` or `.sX`.
    pub(crate) fn is_integer(self) -> bool {
        self.is_signed() || matches!(self, Self::U8 | Self::U16 | Self::U32 | Self::U64)
    }
}

/// A value that fits into a register.
pub(crate) trait Word: Copy + Send + Sync + 'static {
    /// From the low bits of a register.
    fn read(register: u64) -> Self;
    /// As a register holds it.
    fn write(self) -> u64;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Word for $t {
            #[inline(always)]
            fn read(register: u64) -> Self {
                register as $t
            }
            #[inline(always)]
            fn write(self) -> u64 {
                self as u64
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Word for f32 {
    #[inline(always)]
    fn read(register: u64) -> Self {
        f32::from_bits(register as u32)
    }
    #[inline(always)]
    fn write(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Word for f64 {
    #[inline(always)]
    fn read(register: u64) -> Self {
        f64::from_bits(register)
    }
    #[inline(always)]
    fn write(self) -> u64 {
        self.to_bits()
    }
}

/// A predicate.
impl Word for bool {
    #[inline(always)]
    fn read(register: u64) -> Self {
        register & 1 != 0
    }
    #[inline(always)]
    fn write(self) -> u64 {
        u64::from(self)
    }
}
