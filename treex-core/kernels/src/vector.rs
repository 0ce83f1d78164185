//! Explicit SIMD vectors, for loops that must keep many of them in registers.
//!
//! The compiler vectorizes a plain loop ([`isa`](super::isa)), but does not keep a tile of the result in registers
//! across a loop. A kernel that needs this is generic over [`Vector`]; [`Vectors::dispatch`] runs it with the widest
//! vectors of the machine.

use std::array::from_fn;
use std::marker::PhantomData;

use super::isa::{Isa, Kernel, Set};
use super::math::Real;
use super::sealed::Sealed;

/// A SIMD register. Sealed.
///
/// # Safety
/// Every method executes instructions of the vector's instruction set, so it may be called only on a machine that has
/// them: inside [`VectorKernel::run`], which has the same requirement.
pub trait Vector: Copy + Sealed {
    /// The element type.
    type Element: Vectors;
    /// The number of elements.
    const LANES: usize;
    /// The number of such registers.
    const REGISTERS: usize;

    /// Loads the elements at `from`.
    ///
    /// # Safety
    /// `from` is valid for [`LANES`](Self::LANES) reads, and the machine has the instructions.
    unsafe fn load(from: *const Self::Element) -> Self;
    /// Writes the elements to `to`.
    ///
    /// # Safety
    /// `to` is valid for [`LANES`](Self::LANES) writes, and the machine has the instructions.
    unsafe fn store(self, to: *mut Self::Element);
    /// Loads `len` elements at `from`, and zeros for the rest.
    ///
    /// # Safety
    /// `from` is valid for `len` reads, `len` is at most [`LANES`](Self::LANES), and the machine has the instructions.
    unsafe fn load_part(from: *const Self::Element, len: usize) -> Self;
    /// Writes the first `len` elements to `to`.
    ///
    /// # Safety
    /// `to` is valid for `len` writes, `len` is at most [`LANES`](Self::LANES), and the machine has the instructions.
    unsafe fn store_part(self, to: *mut Self::Element, len: usize);
    /// `x` in every lane.
    ///
    /// # Safety
    /// The machine has the instructions.
    unsafe fn splat(x: Self::Element) -> Self;
    /// `self · a + b`, rounded once.
    ///
    /// # Safety
    /// The machine has the instructions.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// The elements of `self` and of `other` interleaved: the first half of the result, and the second.
    ///
    /// # Safety
    /// The machine has the instructions.
    unsafe fn zip(self, other: Self) -> (Self, Self);
}

/// A computation that is compiled for each vector type, under the rules of [`Kernel`].
pub trait VectorKernel<T> {
    /// The result; `()` for a kernel that writes to its slices.
    type Output;

    /// Computes it.
    ///
    /// # Safety
    /// The machine has the instructions of `V`.
    unsafe fn run<V: Vector<Element = T>>(self) -> Self::Output;
}

/// An element type of vectors: `f32` or `f64`. Sealed.
pub trait Vectors: Real + Sealed {
    /// Runs a kernel with the widest vectors of the machine.
    fn dispatch<K: VectorKernel<Self>>(kernel: K) -> K::Output {
        Self::dispatch_on(Isa::best(), kernel)
    }

    /// Runs a kernel with the vectors of an instruction set.
    fn dispatch_on<K: VectorKernel<Self>>(isa: Isa, kernel: K) -> K::Output;

    /// The number of elements of a vector, and of registers.
    fn registers() -> (usize, usize) {
        struct Registers;
        impl<T> VectorKernel<T> for Registers {
            type Output = (usize, usize);

            #[inline(always)]
            unsafe fn run<V: Vector<Element = T>>(self) -> Self::Output {
                (V::LANES, V::REGISTERS)
            }
        }
        Self::dispatch(Registers)
    }
}

/// Adapts a [`VectorKernel`] to a [`Kernel`]. Only [`Vectors::dispatch_on`] makes one, and runs it on an instruction
/// set that has the vectors.
struct With<K, V>(K, PhantomData<V>);

impl<V: Vector, K: VectorKernel<V::Element>> Kernel for With<K, V> {
    type Output = K::Output;

    #[inline(always)]
    fn run(self) -> K::Output {
        // SAFETY: this runs on an instruction set that has the vectors.
        unsafe { self.0.run::<V>() }
    }
}

macro_rules! vectors {
    ($type:ident: $avx2:ident, $avx512:ident) => {
        impl Vectors for $type {
            fn dispatch_on<K: VectorKernel<Self>>(isa: Isa, kernel: K) -> K::Output {
                match isa.set() {
                    Set::Portable => {
                        isa.run(With::<_, [$type; 16 / size_of::<$type>()]>(kernel, PhantomData))
                    }
                    #[cfg(target_arch = "x86_64")]
                    Set::Avx2 => isa.run(With::<_, x86::$avx2>(kernel, PhantomData)),
                    #[cfg(target_arch = "x86_64")]
                    Set::Avx512 => isa.run(With::<_, x86::$avx512>(kernel, PhantomData)),
                }
            }
        }

        impl Sealed for [$type; 16 / size_of::<$type>()] {}

        /// An array of 16 bytes, which the compiler places in a vector register if the machine has them.
        impl Vector for [$type; 16 / size_of::<$type>()] {
            type Element = $type;
            const LANES: usize = 16 / size_of::<$type>();
            const REGISTERS: usize = 16;

            #[inline(always)]
            unsafe fn load(from: *const $type) -> Self {
                // SAFETY: the caller's contract; an array has the alignment of its elements.
                unsafe { *from.cast() }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $type) {
                // SAFETY: as above.
                unsafe { *to.cast() = self }
            }

            #[inline(always)]
            unsafe fn load_part(from: *const $type, len: usize) -> Self {
                // SAFETY: as above.
                from_fn(|lane| if lane < len { unsafe { *from.add(lane) } } else { 0. })
            }

            #[inline(always)]
            unsafe fn store_part(self, to: *mut $type, len: usize) {
                for (lane, x) in self.into_iter().enumerate().take(len) {
                    // SAFETY: as above.
                    unsafe { *to.add(lane) = x };
                }
            }

            #[inline(always)]
            unsafe fn splat(x: $type) -> Self {
                [x; 16 / size_of::<$type>()]
            }

            #[inline(always)]
            unsafe fn mul_add(mut self, a: Self, b: Self) -> Self {
                for lane in 0..Self::LANES {
                    self[lane] = self[lane].mul_add(a[lane], b[lane]);
                }
                self
            }

            #[inline(always)]
            unsafe fn zip(self, other: Self) -> (Self, Self) {
                let turn = |from| from_fn(|lane| [self, other][lane % 2][from + lane / 2]);
                (turn(0), turn(Self::LANES / 2))
            }
        }
    };
}

vectors!(f32: __m256, __m512);
vectors!(f64: __m256d, __m512d);

#[cfg(target_arch = "x86_64")]
mod x86 {
    pub(super) use std::arch::x86_64::*;

    use super::{Sealed, Vector};

    macro_rules! vector {
        ($vector:ident of $lanes:literal $type:ident in $registers:literal:
         $load:ident $store:ident $splat:ident $mul_add:ident,
         $mask:expr, $load_part:expr, $store_part:expr, $zip:expr) => {
            impl Sealed for $vector {}

            impl Vector for $vector {
                type Element = $type;
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;

                #[inline(always)]
                unsafe fn load(from: *const $type) -> Self {
                    // SAFETY: the caller's contract; the instruction requires no alignment.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $type) {
                    // SAFETY: as above.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                unsafe fn load_part(from: *const $type, len: usize) -> Self {
                    // SAFETY: as above; masked elements are not accessed.
                    unsafe { $load_part($mask(len), from) }
                }

                #[inline(always)]
                unsafe fn store_part(self, to: *mut $type, len: usize) {
                    // SAFETY: as above.
                    unsafe { $store_part($mask(len), to, self) }
                }

                #[inline(always)]
                unsafe fn splat(x: $type) -> Self {
                    // SAFETY: as above.
                    unsafe { $splat(x) }
                }

                #[inline(always)]
                unsafe fn mul_add(self, a: Self, b: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $mul_add(self, a, b) }
                }

                #[inline(always)]
                unsafe fn zip(self, other: Self) -> (Self, Self) {
                    // SAFETY: as above.
                    unsafe { $zip(self, other) }
                }
            }
        };
    }

    vector!(__m512 of 16 f32 in 32: _mm512_loadu_ps _mm512_storeu_ps _mm512_set1_ps _mm512_fmadd_ps,
        |len| ((1_u32 << len) - 1) as __mmask16,
        |mask, from| _mm512_maskz_loadu_ps(mask, from),
        |mask, to, x| _mm512_mask_storeu_ps(to, mask, x), |a, b| {
        let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
        (_mm512_permutex2var_ps(a, first, b), _mm512_permutex2var_ps(a, second, b))
    });
    vector!(__m512d of 8 f64 in 32: _mm512_loadu_pd _mm512_storeu_pd _mm512_set1_pd _mm512_fmadd_pd,
        |len| ((1_u32 << len) - 1) as __mmask8,
        |mask, from| _mm512_maskz_loadu_pd(mask, from),
        |mask, to, x| _mm512_mask_storeu_pd(to, mask, x), |a, b| {
        let first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        let second = _mm512_add_epi64(first, _mm512_set1_epi64(4));
        (_mm512_permutex2var_pd(a, first, b), _mm512_permutex2var_pd(a, second, b))
    });
    vector!(__m256 of 8 f32 in 16: _mm256_loadu_ps _mm256_storeu_ps _mm256_set1_ps _mm256_fmadd_ps,
        |len| _mm256_cmpgt_epi32(_mm256_set1_epi32(len as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
        |mask, from| _mm256_maskload_ps(from, mask),
        |mask, to, x| _mm256_maskstore_ps(to, mask, x), |a, b| {
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    });
    vector!(__m256d of 4 f64 in 16: _mm256_loadu_pd _mm256_storeu_pd _mm256_set1_pd _mm256_fmadd_pd,
        |len| _mm256_cmpgt_epi64(_mm256_set1_epi64x(len as i64), _mm256_setr_epi64x(0, 1, 2, 3)),
        |mask, from| _mm256_maskload_pd(from, mask),
        |mask, to, x| _mm256_maskstore_pd(to, mask, x), |a, b| {
        let (low, high) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        (_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high))
    });
}
