//! The element types of kernels, their bytes, and how near two results are.

use treex_kernels::float::{Float, bf16, f16};
use treex_kernels::math::Real;

/// A number as a kernel reads it.
pub(crate) trait Plain: Copy {
    /// Its bytes.
    const SIZE: usize;
    /// Appends its bytes.
    fn put(self, to: &mut Vec<u8>);
    /// The number of these bytes.
    fn get(from: &[u8]) -> Self;
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Plain for $type {
            const SIZE: usize = size_of::<Self>();

            fn put(self, to: &mut Vec<u8>) {
                to.extend(self.to_le_bytes());
            }

            fn get(from: &[u8]) -> Self {
                Self::from_le_bytes(from.try_into().unwrap())
            }
        }
    )*};
}

plain!(u8, u32, u64, i64, f32, f64, f16, bf16);

/// The bytes of numbers.
pub(crate) fn bytes<T: Plain>(numbers: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    numbers.iter().for_each(|number| number.put(&mut bytes));
    bytes
}

/// The numbers of these bytes.
pub(crate) fn elements<T: Plain>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(T::SIZE).map(T::get).collect()
}

/// An element type.
pub(crate) trait Element: Float<Wide: Plain> + Plain {
    /// The dialect's name.
    const NAME: &str;
    /// What two orders of the same sums may differ by, relative to their size.
    const WIDE: f64;
    /// What one rounding to this type may differ by, relative to the number.
    const ROUNDING: f64;

    /// The nearest element.
    fn of(number: f64) -> Self {
        Self::narrow(Self::Wide::of(number))
    }

    /// The exact number.
    fn exact(self) -> f64 {
        self.widen().to_f64()
    }
}

macro_rules! element_types {
    ($($type:ty, $name:literal, $wide:literal, $rounding:expr;)*) => {$(
        impl Element for $type {
            const NAME: &str = $name;
            const WIDE: f64 = $wide;
            const ROUNDING: f64 = $rounding;
        }
    )*};
}

element_types! {
    f32, "F32", 2e-6, 0.;
    f64, "F64", 1e-12, 0.;
    f16, "F16", 2e-6, 1. / 1024.;
    bf16, "BF16", 2e-6, 1. / 128.;
}

/// Numbers that repeat late, between -2 and 2; of any three in a row, no two are near to each other.
pub(crate) fn numbers<T: Element>(len: usize, seed: usize) -> Vec<T> {
    (0..len).map(|i| T::of(((i * 377 + seed * 11) % 1013) as f64 / 253. - 2.)).collect()
}

/// Numbers of the type that `T` is computed in.
pub(crate) fn wide_numbers<T: Element>(len: usize, seed: usize) -> Vec<T::Wide> {
    numbers::<f64>(len, seed).into_iter().map(T::Wide::of).collect()
}
