//! Vectorized samples against scalar samples, and against JAX.

use std::mem::MaybeUninit;

use half::{bf16, f16};

use crate::random::Key;
use crate::random::distribution::{
    Cauchy, Distribution, Draw, Exponential, Gumbel, Laplace, Logistic, Normal, TruncatedNormal, Uniform,
};
use crate::random::real::Real;
use treex_kernels::fill::Piece;
use treex_kernels::isa::{Isa, Kernel};
use treex_kernels::random::bernoulli::Bernoulli;
use treex_kernels::random::sampler::{Sampler, Samples};

const KEY: Key = Key([17, 0xDEAD_BEEF]);

/// The bits of a sample, so that NaN and the sign of zero are compared.
trait Bits: Copy + Default + Send {
    fn bits(self) -> u64;
}

macro_rules! bits {
    ($($type:ty: $bits:expr),*) => {$(
        impl Bits for $type {
            fn bits(self) -> u64 {
                let bits: fn($type) -> _ = $bits;
                bits(self).into()
            }
        }
    )*};
}

bits!(bf16: bf16::to_bits, f16: f16::to_bits, f32: f32::to_bits, f64: f64::to_bits, u8: |x| x, u32: |x| x);

/// What each instruction set makes at the indices from `start` on, against one sample after another by the
/// baseline's instructions.
#[expect(unsafe_code, reason = "the kernel wrote every element of its piece")]
fn assert_equal<T: Bits>(
    name: &str,
    start: u64,
    len: usize,
    sampler: impl Sampler<Output = T>,
    one: impl Fn([u32; 2]) -> T,
) {
    let expected: Vec<u64> = (0..len as u64).map(|n| one(KEY.block(start.wrapping_add(n))).bits()).collect();
    for level in Isa::available() {
        let samples = Samples { key: KEY.words(), start, x: &vec![(); len], sampler };
        // Offset, so that no vector is aligned.
        let mut memory = vec![MaybeUninit::new(T::default()); len + 1];
        level.run(Piece { first: 0, piece: &mut memory[1..], kernel: &samples });
        // SAFETY: every element was initialized above.
        let got = memory[1..].iter().map(|x| unsafe { x.assume_init() }.bits());
        if let Some((n, (got, expected))) =
            got.zip(&expected).enumerate().find(|(_, (got, expected))| got != *expected)
        {
            panic!("{name} with {level:?}, {start} + {n} of {len}: {got:x}, not {expected:x}");
        }
    }
}

fn all_lengths<T: Bits>(name: &str, sampler: impl Sampler<Output = T>, one: impl Fn([u32; 2]) -> T) {
    for len in 0..=40 {
        assert_equal(name, 3 * len as u64, len, sampler, &one);
    }
    for len in [63, 64, 65, 127, 129, 1000, 4099] {
        assert_equal(name, 1 << 20, len, sampler, &one);
    }
    // Across the indices at which the low word carries.
    for start in [(1 << 32) - 77, (5 << 32) - 1, u64::MAX - 30] {
        assert_equal(name, start, 200, sampler, &one);
    }
}

fn all_types<D: Distribution>(distribution: &D) {
    fn of<D: Distribution, T: Real + Bits>(distribution: &D) {
        let name = format!("{} of {:?}", D::NAME, T::DTYPE);
        let arguments = distribution.arguments();
        all_lengths(&name, Draw::<D, T>(arguments), distribution.sampler::<T>());
    }
    of::<D, bf16>(distribution);
    of::<D, f16>(distribution);
    of::<D, f32>(distribution);
    of::<D, f64>(distribution);
}

#[test]
fn every_lane_is_the_scalar_sample() {
    all_types(&Uniform { minval: 0., maxval: 1. });
    all_types(&Uniform { minval: -3.3, maxval: 2.2 });
    all_types(&Uniform { minval: 2., maxval: f64::NAN });
    all_types(&Normal);
    all_types(&TruncatedNormal { lower: -1.5, upper: 0.7 });
    all_types(&Gumbel);
    all_types(&Exponential);
    all_types(&Laplace);
    all_types(&Logistic);
    all_types(&Cauchy);
    let word = |[a, b]: [u32; 2]| a ^ b;
    all_lengths("bits", word, word);
    let bernoulli = Bernoulli::new(0.3);
    let by_count = move |block| u8::from(bernoulli.sample(block));
    all_lengths("bernoulli", by_count, |block| u8::from(f32::unit(block) < 0.3));
}

/// All 2^23 samples of an `f32` distribution, from consecutive words instead of hashed ones.
struct Sweep<'a> {
    samples: &'a mut [f32],
}

impl Kernel for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let interval = Normal.arguments();
        let mut word = 0u32;
        for sample in self.samples {
            *sample = Normal::sample(interval, [word, 0]);
            word = word.wrapping_add(1 << 9);
        }
    }
}

#[test]
fn every_f32_sample_of_a_normal() {
    let one = Normal.sampler::<f32>();
    let expected: Vec<f32> = (0..1 << 23).map(|n: u32| one([n << 9, 0])).collect();
    for level in Isa::available() {
        let mut got = vec![0f32; 1 << 23];
        level.run(Sweep { samples: &mut got });
        assert!(got.iter().zip(&expected).all(|(got, expected)| got.bits() == expected.bits()), "{level:?}");
    }
}

/// JAX's samples at indices above 2^32: `far_indices.json`, made by `far_indices.py`.
#[test]
fn large_indices_as_in_jax() {
    let fixture = include_str!("../../tests/fixtures/far_indices.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(fixture).unwrap();
    let key = Key([17, 0xDEAD_BEEF]);
    assert_eq!(cases.len(), 5);
    for case in cases {
        let start = case["start"].as_str().unwrap().parse().unwrap();
        let none = [(); 8];
        let bits = key.map(start, &none, |[a, b]: [u32; 2]| a ^ b).unwrap();
        assert_eq!(serde_json::json!(bits), case["bits"], "{start}");
        let normal = key.map(start, &none, Draw::<Normal, f32>(Normal.arguments())).unwrap();
        let normal: Vec<String> = normal.iter().map(|x| format!("{:08x}", x.to_bits())).collect();
        assert_eq!(serde_json::json!(normal), case["normal"], "{start}");
        let bernoulli = Bernoulli::new(0.9);
        let kept = key.map(start, &none, move |block| u8::from(bernoulli.sample(block))).unwrap();
        assert_eq!(serde_json::json!(kept), case["bernoulli_0.9"], "{start}");
    }
}

/// The same samples for any length, and in pieces on several threads.
#[test]
fn pieces_equal_the_whole() {
    let word = |[a, b]: [u32; 2]| a ^ b;
    let whole = KEY.map(0, &[(); 200_001], word).unwrap();
    assert!((0..).zip(&whole).all(|(n, &got)| got == word(KEY.block(n))));
    for (start, len) in [(0, 0), (1, 70_000), (65_537, 134_464), (200_000, 1)] {
        let mut part = vec![0; len];
        KEY.fill(start as u64, &mut part, word).unwrap();
        assert_eq!(part, whole[start..start + len]);
    }
}

#[test]
fn bernoulli_equals_the_comparison() {
    let edges =
        [0f32, f32::from_bits(1), 2f32.powi(-24), 2f32.powi(-23), 0.1, 0.3, 0.5, 0.9, 1. - f32::EPSILON];
    let others =
        [1., 1. - f32::EPSILON / 2., 1.5, f32::MAX, f32::INFINITY, f32::NAN, -0., -0.5, f32::NEG_INFINITY];
    for p in edges.into_iter().chain(others).flat_map(|p| [p.next_down(), p, p.next_up()]) {
        let bernoulli = Bernoulli::new(p);
        // The counts around the threshold, and both ends.
        let edge = (p * (1 << 23) as f32) as u32;
        for count in
            (0..4).chain(edge.saturating_sub(4)..edge.saturating_add(4)).chain((1 << 23) - 4..1 << 23)
        {
            let block = [(count & ((1 << 23) - 1)) << 9 | 0x155, 0];
            assert_eq!(bernoulli.sample(block), f32::unit(block) < p, "{count} for {p:e}");
        }
    }
}
