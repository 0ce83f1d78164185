//! Bernoulli samples.

/// True with a probability: `jax.random.uniform(key) < p`.
///
/// The uniform number is one of 2^23, counted by the high bits of a word, so the count is compared.
#[derive(Clone, Copy, Debug)]
pub struct Bernoulli {
    /// How many of the 2^23 are below `p`.
    below: u32,
}

impl Bernoulli {
    /// True with probability `p`: never for `p` below 0 or NaN, always for `p` from 1 on.
    #[must_use]
    pub fn new(p: f32) -> Self {
        // The product is exact, and the conversion saturates: to 0 for NaN and below 0.
        Self { below: (p * (1 << 23) as f32).ceil() as u32 }
    }

    /// How many of 2^23 uniform numbers are true.
    #[must_use]
    pub fn below(self) -> u32 {
        self.below
    }

    /// The sample for two random words.
    #[inline(always)]
    #[must_use]
    pub fn sample(self, [a, b]: [u32; 2]) -> bool {
        (a ^ b) >> 9 < self.below
    }
}
