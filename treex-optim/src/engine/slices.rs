//! Slices of any float type, read and written in the compute type.

use std::ops::Range;

use candle_core::CpuStorage;
use half::{bf16, f16};
use treex_kernels::float::Float;
use treex_kernels::isa::{Kernel, dispatch, prefetch};

use super::erased::{ErasedRule, ErasedTerms};
use super::loops::Chunk;
use crate::transfer::round_to_odd;

/// A slice to read.
#[derive(Clone, Copy)]
pub(crate) enum View<'s> {
    F32(&'s [f32]),
    F64(&'s [f64]),
    BF16(&'s [bf16]),
    F16(&'s [f16]),
}

/// A slice to write.
pub(crate) enum Slice<'s> {
    F32(&'s mut [f32]),
    F64(&'s mut [f64]),
    BF16(&'s mut [bf16]),
    F16(&'s mut [f16]),
}

/// Runs `$body` with `$slice` bound to the slice in `$memory`, whatever its type.
macro_rules! with_slice {
    ($kind:ident, $memory:expr, $slice:ident => $body:expr) => {
        match $memory {
            $kind::F32($slice) => $body,
            $kind::F64($slice) => $body,
            $kind::BF16($slice) => $body,
            $kind::F16($slice) => $body,
        }
    };
}

impl<'s> View<'s> {
    /// The `len` elements from `start` on; `None` for a type that is not a float, or for too few elements.
    pub(crate) fn of(storage: &'s CpuStorage, start: usize, len: usize) -> Option<Self> {
        let range = start..start.checked_add(len)?;
        Some(match storage {
            CpuStorage::F32(values) => Self::F32(values.get(range)?),
            CpuStorage::F64(values) => Self::F64(values.get(range)?),
            CpuStorage::BF16(values) => Self::BF16(values.get(range)?),
            CpuStorage::F16(values) => Self::F16(values.get(range)?),
            _ => return None,
        })
    }

    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        macro_rules! split {
            ($($kind:ident),*) => {
                match self {
                    $(Self::$kind(slice) => {
                        let (a, b) = slice.split_at(at);
                        (Self::$kind(a), Self::$kind(b))
                    })*
                }
            };
        }
        split!(F32, F64, BF16, F16)
    }
}

impl<'s> Slice<'s> {
    pub(crate) fn of(storage: &'s mut CpuStorage) -> Option<Self> {
        Some(match storage {
            CpuStorage::F32(values) => Self::F32(values),
            CpuStorage::F64(values) => Self::F64(values),
            CpuStorage::BF16(values) => Self::BF16(values),
            CpuStorage::F16(values) => Self::F16(values),
            _ => return None,
        })
    }

    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Self::F32(slice) => View::F32(slice),
            Self::F64(slice) => View::F64(slice),
            Self::BF16(slice) => View::BF16(slice),
            Self::F16(slice) => View::F16(slice),
        }
    }

    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        macro_rules! split {
            ($($kind:ident),*) => {
                match self {
                    $(Self::$kind(slice) => {
                        let (a, b) = slice.split_at_mut(at);
                        (Self::$kind(a), Self::$kind(b))
                    })*
                }
            };
        }
        split!(F32, F64, BF16, F16)
    }
}

/// A type to compute in: `f32` or `f64`.
pub(crate) trait Wide: Copy + Default {
    /// The elements themselves, if they have this type.
    fn own<'s>(view: View<'s>) -> Option<&'s [Self]>;
    /// The same for writing.
    fn own_mut<'s>(slice: &'s mut Slice<'_>) -> Option<&'s mut [Self]>;
    /// Converts elements to this type.
    fn read(view: View<'_>, range: Range<usize>, to: &mut [Self]);
    /// Converts elements from this type.
    fn write(from: &[Self], slice: &mut Slice<'_>, range: Range<usize>);
    fn apply(rule: &dyn ErasedRule, chunk: Chunk<'_, '_, Self>);
    fn sum(terms: &dyn ErasedTerms, u: &[Self], p: &[Self], sums: &mut [f64]);
}

macro_rules! wide {
    ($($type:ident $kind:ident $apply:ident $sum:ident),*) => {$(
        impl Wide for $type {
            fn own<'s>(view: View<'s>) -> Option<&'s [Self]> {
                match view {
                    View::$kind(slice) => Some(slice),
                    _ => None,
                }
            }

            fn own_mut<'s>(slice: &'s mut Slice<'_>) -> Option<&'s mut [Self]> {
                match slice {
                    Slice::$kind(slice) => Some(slice),
                    _ => None,
                }
            }

            fn read(view: View<'_>, range: Range<usize>, to: &mut [Self]) {
                with_slice!(View, view, slice => {
                    ahead(slice, &range);
                    dispatch(Convert(&slice[range], to));
                });
            }

            fn write(from: &[Self], slice: &mut Slice<'_>, range: Range<usize>) {
                with_slice!(Slice, slice, slice => dispatch(Convert(from, &mut slice[range])));
            }

            fn apply(rule: &dyn ErasedRule, chunk: Chunk<'_, '_, Self>) {
                rule.$apply(chunk);
            }

            fn sum(terms: &dyn ErasedTerms, u: &[Self], p: &[Self], sums: &mut [f64]) {
                terms.$sum(u, p, sums);
            }
        }
    )*};
}

wide!(f32 F32 run_f32 sum_f32, f64 F64 run_f64 sum_f64);

/// Prefetches the elements after a range, as many as it has.
fn ahead<T>(slice: &[T], range: &Range<usize>) {
    for line in (0..range.len()).step_by(64 / size_of::<T>()) {
        prefetch(slice.as_ptr().wrapping_add(range.end + line));
    }
}

/// A conversion of elements from one type to another.
struct Convert<'c, A, B>(&'c [A], &'c mut [B]);

macro_rules! convert {
    ($($from:ident $to:ident),*) => {$(
        impl Kernel for Convert<'_, $from, $to> {
            type Output = ();

            #[inline(always)]
            fn run(self) {
                for (to, from) in self.1.iter_mut().zip(self.0) {
                    *to = Float::narrow(from.widen() as _);
                }
            }
        }
    )*};
}

convert!(f32 f32, f32 f64, f32 bf16, f32 f16, f64 f32, f64 f64, bf16 f32, bf16 f64, f16 f32, f16 f64);

macro_rules! convert_in_two_steps {
    ($($to:ident),*) => {$(
        impl Kernel for Convert<'_, f64, $to> {
            type Output = ();

            #[inline(always)]
            fn run(self) {
                for (to, from) in self.1.iter_mut().zip(self.0) {
                    *to = Float::narrow(round_to_odd(*from));
                }
            }
        }
    )*};
}

convert_in_two_steps!(bf16, f16);
