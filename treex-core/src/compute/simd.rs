//! Instruction sets, chosen while the program runs.
//!
//! A kernel is a plain loop over slices, which the compiler turns into vector instructions. [`dispatch`]
//! holds one copy of it for each instruction set that is worth one and runs the best that the machine has, so
//! that the speed needs no compiler flags and the mathematics stands in one place, for one element.
//!
//! The copies compute the same bits: each operation rounds as IEEE 754 says, `f32::mul_add` is one rounding
//! on every machine (a library call, slow, where there is no instruction), and nothing is reordered.

/// A computation that is compiled once for each instruction set.
///
/// `run`, and whatever its loops call, must be `#[inline(always)]`: a function that is not inlined keeps the
/// instruction set of the crate, and the loop around it stays scalar. A closure cannot say so; small ones are
/// inlined all the same. A branch of which both sides are cheap and without effect becomes a selection.
pub trait Kernel {
    /// What it computes, `()` for one that writes to its slices.
    type Output;

    /// Computes it.
    fn run(self) -> Self::Output;
}

/// Runs a kernel with the best instructions of this machine.
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    Level::best().run(kernel)
}

/// Asks for the line of the cache at an address that will be read soon; nothing happens if there is none. A loop
/// over many arrays asks ahead, since the processor itself does so only within a page of each.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is a hint, which reads nothing and cannot fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// An instruction set for which kernels are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the crate is compiled for. With NEON, this is the best.
    Compiled,
    /// 8 lanes of `f32`, and fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 16 lanes of `f32`, and rotations.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Those of this machine, the best last.
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = Self> {
        let all = [
            Some(Self::Compiled),
            #[cfg(target_arch = "x86_64")]
            (is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("fma"))
            .then_some(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            (is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("fma"))
            .then_some(Self::Avx512),
        ];
        all.into_iter().flatten()
    }

    pub(crate) fn best() -> Self {
        Self::available().next_back().unwrap_or(Self::Compiled)
    }

    /// Runs a kernel with these instructions.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Compiled => kernel.run(),
            // SAFETY: `available` alone hands out this level, on machines that have the features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
