//! Instruction sets, chosen at run time.
//!
//! A kernel is a plain loop over slices, which the compiler vectorizes. [`dispatch`] compiles it for each instruction
//! set and runs the best version on the machine, so that no compiler flags are needed and the mathematics is written
//! once, for one element.
//!
//! All versions compute the same bits: each operation rounds by IEEE 754, `f32::mul_add` rounds once on every machine
//! (by a slow library call if there is no instruction), and nothing is reordered.
//!
//! The environment variable `TREEX_ISA=portable`, read once, selects the instruction set that the crate
//! was compiled for: to test that path, and to compare machines.

use std::sync::LazyLock;

/// A computation that is compiled for each instruction set.
///
/// `run`, and every function that its loops call, must be `#[inline(always)]`: a function that is not inlined is
/// compiled for the instruction set of the crate, and the loop around it stays scalar. Closures cannot be marked; small
/// ones are inlined anyway. A branch whose two sides are cheap and pure becomes a select.
pub trait Kernel {
    /// The result; `()` for a kernel that writes to its slices.
    type Output;

    /// Computes it.
    fn run(self) -> Self::Output;
}

/// Runs a kernel with the best instruction set of the machine.
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    Isa::best().run(kernel)
}

/// Runs a kernel with the best instructions of this machine up to vectors of 256 bits. For memory-bound kernels: wider
/// vectors gain nothing, and a third copy of each would lengthen the build.
pub fn dispatch_256<K: Kernel>(kernel: K) -> K::Output {
    match Isa::best().0 {
        Set::Portable => kernel.run(),
        // SAFETY: a machine with AVX-512 has these instructions too, and `best` says that this one has one of both.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 | Set::Avx512 => unsafe { avx2(kernel) },
    }
}

/// Prefetches the cache line at an address; an unmapped address has no effect. For loops over many arrays, since the
/// hardware prefetcher stops at page boundaries.
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

/// An instruction set of this machine. Only [`available`](Self::available) makes one, so a value proves that its
/// instructions can be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// The set that the crate is compiled for. With NEON, this is the best.
    Portable,
    /// 8 lanes of `f32`, and fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 16 lanes of `f32`, and 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

static BEST: LazyLock<Isa> = LazyLock::new(|| {
    let is_portable = std::env::var_os("TREEX_ISA").is_some_and(|isa| isa == "portable");
    let mut sets = Isa::available();
    (if is_portable { sets.next() } else { sets.next_back() }).unwrap_or(Isa(Set::Portable))
});

impl Isa {
    /// The instruction sets of this machine that kernels are compiled for, from the portable one to the best one.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        let all = [
            Some(Set::Portable),
            #[cfg(target_arch = "x86_64")]
            (is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("fma"))
            .then_some(Set::Avx2),
            #[cfg(target_arch = "x86_64")]
            (is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("fma"))
            .then_some(Set::Avx512),
        ];
        all.into_iter().flatten().map(Self)
    }

    /// The instruction set that [`dispatch`] uses.
    #[must_use]
    pub fn best() -> Self {
        *BEST
    }

    pub(crate) fn set(self) -> Set {
        self.0
    }

    /// Whether it has 32 vector registers of 64 bytes.
    pub(crate) fn has_wide_registers(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 == Set::Avx512;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Runs a kernel with this instruction set.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Portable => kernel.run(),
            // SAFETY: `available` alone makes this value, on machines that have the features.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512(kernel) },
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

#[cfg(test)]
mod tests {
    use super::*;

    /// So that tests under `TREEX_ISA=portable` test that path.
    #[test]
    fn the_environment_restricts_the_choice() {
        let is_portable = std::env::var_os("TREEX_ISA").is_some_and(|isa| isa == "portable");
        let expected = if is_portable { Isa::available().next() } else { Isa::available().next_back() };
        assert_eq!(Some(Isa::best()), expected);
        assert_eq!(Isa::best().set() == Set::Portable, is_portable || Isa::available().count() == 1);
    }
}
