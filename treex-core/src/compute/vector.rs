//! Vectors that a kernel names, for loops that must hold many of them in registers.
//!
//! The compiler turns a plain loop into vector instructions ([`simd`](super::simd)), but it does not keep a tile of
//! a result in registers across a loop. A kernel that needs this is written once for any [`Vector`], and
//! [`Vectors::dispatch`] runs it with the widest of this machine.

use std::marker::PhantomData;

use super::math::Real;
use super::simd::{Kernel, Level};

/// Some elements side by side, in a register.
pub trait Vector: Copy {
    /// What it holds.
    type Element: Vectors;
    /// How many it holds.
    const LANES: usize;
    /// How many such registers the machine has.
    const REGISTERS: usize;

    /// The elements at `from`.
    ///
    /// # Safety
    /// There are [`LANES`](Self::LANES) of them.
    unsafe fn load(from: *const Self::Element) -> Self;
    /// Writes the elements to `to`.
    ///
    /// # Safety
    /// There is room for [`LANES`](Self::LANES) of them.
    unsafe fn store(self, to: *mut Self::Element);
    /// `x` in every lane.
    fn splat(x: Self::Element) -> Self;
    /// `self · a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
}

/// A computation that is compiled once for each kind of vector; what holds for a [`Kernel`] holds here.
pub trait VectorKernel<T> {
    /// What it computes, `()` for one that writes to its slices.
    type Output;

    /// Computes it.
    fn run<V: Vector<Element = T>>(self) -> Self::Output;
}

/// An element type that machines have vectors of.
pub trait Vectors: Real {
    /// Runs a kernel with the widest vectors of this machine.
    fn dispatch<K: VectorKernel<Self>>(kernel: K) -> K::Output {
        Self::dispatch_at(Level::best(), kernel)
    }

    /// Runs a kernel with the vectors of an instruction set.
    #[doc(hidden)]
    fn dispatch_at<K: VectorKernel<Self>>(level: Level, kernel: K) -> K::Output;

    /// Elements of a vector, and the number of registers.
    fn registers() -> (usize, usize) {
        struct Registers;
        impl<T> VectorKernel<T> for Registers {
            type Output = (usize, usize);

            #[inline(always)]
            fn run<V: Vector<Element = T>>(self) -> Self::Output {
                (V::LANES, V::REGISTERS)
            }
        }
        Self::dispatch(Registers)
    }
}

/// A kernel for vectors as one for an instruction set that has them.
struct With<K, V>(K, PhantomData<V>);

impl<V: Vector, K: VectorKernel<V::Element>> Kernel for With<K, V> {
    type Output = K::Output;

    #[inline(always)]
    fn run(self) -> K::Output {
        self.0.run::<V>()
    }
}

macro_rules! vectors {
    ($type:ident: $avx2:ident, $avx512:ident) => {
        impl Vectors for $type {
            fn dispatch_at<K: VectorKernel<Self>>(level: Level, kernel: K) -> K::Output {
                match level {
                    Level::Compiled => {
                        level.run(With::<_, [$type; 16 / size_of::<$type>()]>(kernel, PhantomData))
                    }
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => level.run(With::<_, x86::$avx2>(kernel, PhantomData)),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => level.run(With::<_, x86::$avx512>(kernel, PhantomData)),
                }
            }
        }

        /// 16 bytes, which the compiler makes a vector of where there are such.
        impl Vector for [$type; 16 / size_of::<$type>()] {
            type Element = $type;
            const LANES: usize = 16 / size_of::<$type>();
            const REGISTERS: usize = 16;

            #[inline(always)]
            unsafe fn load(from: *const $type) -> Self {
                // SAFETY: the caller's promise; an array is aligned as its elements.
                unsafe { *from.cast() }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $type) {
                // SAFETY: as above.
                unsafe { *to.cast() = self }
            }

            #[inline(always)]
            fn splat(x: $type) -> Self {
                [x; 16 / size_of::<$type>()]
            }

            #[inline(always)]
            fn mul_add(mut self, a: Self, b: Self) -> Self {
                for lane in 0..Self::LANES {
                    self[lane] = self[lane].mul_add(a[lane], b[lane]);
                }
                self
            }
        }
    };
}

vectors!(f32: __m256, __m512);
vectors!(f64: __m256d, __m512d);

#[cfg(target_arch = "x86_64")]
mod x86 {
    pub(super) use std::arch::x86_64::*;

    use super::Vector;

    macro_rules! vector {
        ($vector:ident of $lanes:literal $type:ident in $registers:literal:
         $load:ident $store:ident $splat:ident $mul_add:ident) => {
            impl Vector for $vector {
                type Element = $type;
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;

                #[inline(always)]
                unsafe fn load(from: *const $type) -> Self {
                    // SAFETY: the caller's promise; the instruction asks for no alignment, and only a dispatch for a
                    // machine that has it comes here.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $type) {
                    // SAFETY: as above.
                    unsafe { $store(to, self) }
                }

                #[inline(always)]
                fn splat(x: $type) -> Self {
                    // SAFETY: only a dispatch for a machine that has the instruction comes here.
                    unsafe { $splat(x) }
                }

                #[inline(always)]
                fn mul_add(self, a: Self, b: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $mul_add(self, a, b) }
                }
            }
        };
    }

    vector!(__m512 of 16 f32 in 32: _mm512_loadu_ps _mm512_storeu_ps _mm512_set1_ps _mm512_fmadd_ps);
    vector!(__m512d of 8 f64 in 32: _mm512_loadu_pd _mm512_storeu_pd _mm512_set1_pd _mm512_fmadd_pd);
    vector!(__m256 of 8 f32 in 16: _mm256_loadu_ps _mm256_storeu_ps _mm256_set1_ps _mm256_fmadd_ps);
    vector!(__m256d of 4 f64 in 16: _mm256_loadu_pd _mm256_storeu_pd _mm256_set1_pd _mm256_fmadd_pd);
}
