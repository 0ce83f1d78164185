//! The float types as registers hold them: reading one gives its value, writing one rounds to it.

use super::soft::{BF16, F16, F32, F64, Format, Rounding};
use super::types::Word;

/// A float type. Every value is one of `f64` too; sums, products, quotients and roots of such values that are rounded to
/// `f64` and then to a type of at most 24 bits are as if rounded once, since 53 bits are more than twice as many.
pub(crate) trait Float: Word + PartialOrd {
    const FORMAT: Format;
    fn new(value: f64) -> Self;
    fn value(self) -> f64;

    /// `a * b + c`, rounded once to the nearest.
    fn fma(self, b: Self, c: Self) -> Self {
        Self::read(Self::FORMAT.fma(self.value(), b.value(), c.value(), Rounding::NearestEven))
    }
}

/// `.f32`; with `FLUSH`, subnormals are zeros on their way in and out (`.ftz`).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Single<const FLUSH: bool>(pub(crate) f32);

impl<const FLUSH: bool> Word for Single<FLUSH> {
    #[inline(always)]
    fn read(register: u64) -> Self {
        let value = f32::from_bits(register as u32);
        Self(if FLUSH { flushed(value) } else { value })
    }

    #[inline(always)]
    fn write(self) -> u64 {
        let value = if FLUSH { flushed(self.0) } else { self.0 };
        if value.is_nan() { F32.nan } else { value.to_bits().into() }
    }
}

/// A zero of the same sign for a subnormal.
#[inline(always)]
pub(crate) fn flushed(value: f32) -> f32 {
    if value.abs() < f32::MIN_POSITIVE { 0f32.copysign(value) } else { value }
}

impl<const FLUSH: bool> Float for Single<FLUSH> {
    const FORMAT: Format = F32;

    #[inline(always)]
    fn new(value: f64) -> Self {
        Self(value as f32)
    }

    #[inline(always)]
    fn value(self) -> f64 {
        self.0.into()
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self(self.0.mul_add(b.0, c.0))
    }
}

/// `.f64`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Double(pub(crate) f64);

impl Word for Double {
    #[inline(always)]
    fn read(register: u64) -> Self {
        Self(f64::from_bits(register))
    }

    #[inline(always)]
    fn write(self) -> u64 {
        if self.0.is_nan() { F64.nan } else { self.0.to_bits() }
    }
}

impl Float for Double {
    const FORMAT: Format = F64;

    #[inline(always)]
    fn new(value: f64) -> Self {
        Self(value)
    }

    #[inline(always)]
    fn value(self) -> f64 {
        self.0
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self(self.0.mul_add(b.0, c.0))
    }
}

macro_rules! narrow {
    ($(#[$doc:meta])* $name:ident, $format:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
        pub(crate) struct $name<const FLUSH: bool>(f64);

        impl<const FLUSH: bool> Word for $name<FLUSH> {
            #[inline(always)]
            fn read(register: u64) -> Self {
                Self($format.decode(flush_code::<FLUSH>($format, register)))
            }

            #[inline(always)]
            fn write(self) -> u64 {
                flush_code::<FLUSH>($format, $format.encode(self.0, Rounding::NearestEven, false))
            }
        }

        impl<const FLUSH: bool> Float for $name<FLUSH> {
            const FORMAT: Format = $format;

            #[inline(always)]
            fn new(value: f64) -> Self {
                Self(value)
            }

            #[inline(always)]
            fn value(self) -> f64 {
                self.0
            }
        }
    };
}

narrow!(
    /// `.f16`.
    Half, F16
);
narrow!(
    /// `.bf16`.
    Brain, BF16
);

/// A zero of the same sign for the code of a subnormal of 16 bits.
#[inline(always)]
fn flush_code<const FLUSH: bool>(format: Format, code: u64) -> u64 {
    let code = code & 0xffff;
    if FLUSH && format.is_subnormal(code) { code & 0x8000 } else { code }
}

/// Both halves of 32 bits by one function of one value each.
pub(crate) fn halves1<A: Word, R: Word>(f: impl Fn(A) -> R) -> impl Fn(u32) -> u32 {
    move |a| pack(f(A::read(a.into())), f(A::read((a >> 16).into())))
}

/// As [`halves1`], of two values.
pub(crate) fn halves2<A: Word, R: Word>(f: impl Fn(A, A) -> R) -> impl Fn(u32, u32) -> u32 {
    move |a, b| {
        let half = |by: u32| f(A::read((a >> by).into()), A::read((b >> by).into()));
        pack(half(0), half(16))
    }
}

/// As [`halves1`], of three values.
pub(crate) fn halves3<A: Word, R: Word>(f: impl Fn(A, A, A) -> R) -> impl Fn(u32, u32, u32) -> u32 {
    move |a, b, c| {
        let half =
            |by: u32| f(A::read((a >> by).into()), A::read((b >> by).into()), A::read((c >> by).into()));
        pack(half(0), half(16))
    }
}

fn pack<R: Word>(low: R, high: R) -> u32 {
    (low.write() & 0xffff | high.write() << 16) as u32
}
