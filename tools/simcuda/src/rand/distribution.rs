//! Numbers from words of 32 random bits, by the formulas of `curand_uniform.h` and `curand_normal.h`.

use std::f64::consts::PI;

/// What numbers are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Words.
    Bits,
    /// Above 0, up to 1.
    Uniform,
    /// As `Uniform`, of 53 bits.
    UniformDouble,
    /// Of this mean and deviation.
    Normal(f32, f32),
    /// As `Normal`, of 64 bits.
    NormalDouble(f64, f64),
}

impl Distribution {
    /// Whether numbers come in pairs.
    #[must_use]
    pub fn is_normal(self) -> bool {
        matches!(self, Self::Normal(..) | Self::NormalDouble(..))
    }

    /// Whether numbers have 64 bits.
    #[must_use]
    pub fn is_double(self) -> bool {
        matches!(self, Self::UniformDouble | Self::NormalDouble(..))
    }

    /// Words of one number, or of a pair.
    #[must_use]
    pub fn words(self) -> usize {
        match self {
            Self::Bits | Self::Uniform => 1,
            Self::UniformDouble | Self::Normal(..) => 2,
            Self::NormalDouble(..) => 4,
        }
    }

    /// That many numbers as bytes. `next` fills words; all words of a number or a pair come from one call.
    pub fn generate(self, count: usize, mut next: impl FnMut(&mut [u32])) -> Vec<u8> {
        let mut words = [0; 4];
        let mut bytes = Vec::with_capacity(count * if self.is_double() { 8 } else { 4 });
        for _ in 0..if self.is_normal() { count / 2 } else { count } {
            next(&mut words[..self.words()]);
            match self {
                Self::Bits => bytes.extend(words[0].to_le_bytes()),
                Self::Uniform => bytes.extend(uniform(words[0]).to_le_bytes()),
                Self::UniformDouble => bytes.extend(uniform_double(words[0], words[1]).to_le_bytes()),
                Self::Normal(mean, deviation) => {
                    let angle = words[1] as f32 * TWO_PI_STEP + TWO_PI_STEP / 2.0;
                    let length = (-2.0 * uniform(words[0]).ln()).sqrt();
                    for unit in [angle.sin(), angle.cos()] {
                        bytes.extend((mean + unit * length * deviation).to_le_bytes());
                    }
                }
                Self::NormalDouble(mean, deviation) => {
                    let angle = 2.0 * uniform_double(words[2], words[3]) * PI;
                    let length = (-2.0 * uniform_double(words[0], words[1]).ln()).sqrt();
                    for unit in [angle.sin(), angle.cos()] {
                        bytes.extend((mean + unit * length * deviation).to_le_bytes());
                    }
                }
            }
        }
        bytes
    }
}

/// 2^-32, and 2^-32 of a turn.
const STEP: f32 = 1.0 / 4_294_967_296.0;
const TWO_PI_STEP: f32 = (2.0 * PI / 4_294_967_296.0) as f32;

/// Above 0, up to 1: the middles of 2^32 steps.
fn uniform(word: u32) -> f32 {
    word as f32 * STEP + STEP / 2.0
}

/// As `uniform`, of 2^53 steps.
fn uniform_double(low: u32, high: u32) -> f64 {
    const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;
    let bits = u64::from(low) ^ (u64::from(high) << 21);
    bits as f64 * STEP + STEP / 2.0
}
