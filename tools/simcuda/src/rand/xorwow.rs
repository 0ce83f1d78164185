//! XORWOW: five words of a linear recurrence over bits, and a counter that is added to the last one. (Marsaglia, Xorshift
//! RNGs, 2003; the seeding is that of `curand_kernel.h`.)
//!
//! The library runs 4096 of them, 2^67 steps apart, in turn: word `n` of its sequence is step `n / 4096` of generator
//! `n % 4096`. A number that needs more words takes them from one generator.

use std::sync::LazyLock;

/// Generators that run in turn.
const STREAMS: usize = 4096;
/// The logarithm of the steps between them.
const APART: u32 = 67;
/// What the counter grows by.
const WEYL: u32 = 362_437;

/// The five words of the recurrence, as one vector of 160 bits.
type Bits = [u32; 5];

/// One generator.
#[derive(Clone, Copy, Debug)]
struct State {
    words: Bits,
    counter: u32,
}

/// One step of the recurrence.
fn step(words: Bits) -> Bits {
    let [first, a, b, c, last] = words;
    let mixed = first ^ (first >> 2);
    [a, b, c, last, (last ^ (last << 4)) ^ (mixed ^ (mixed << 1))]
}

impl State {
    fn seeded(seed: u64) -> Self {
        let low = (seed as u32 ^ 0xaad2_6b49).wrapping_mul(1_099_087_573);
        let high = ((seed >> 32) as u32 ^ 0xf7dc_efdd).wrapping_mul(2_591_861_531);
        let words = [
            123_456_789_u32.wrapping_add(low),
            362_436_069 ^ low,
            521_288_629_u32.wrapping_add(high),
            88_675_123 ^ high,
            5_783_321_u32.wrapping_add(low),
        ];
        Self { words, counter: 6_615_241_u32.wrapping_add(high).wrapping_add(low) }
    }

    fn next(&mut self) -> u32 {
        self.words = step(self.words);
        self.counter = self.counter.wrapping_add(WEYL);
        self.words[4].wrapping_add(self.counter)
    }

    /// That many steps at once, by their matrix.
    fn skip(&mut self, steps: u64, matrix: &Matrix) {
        self.words = matrix.apply(self.words);
        self.counter = self.counter.wrapping_add(WEYL.wrapping_mul(steps as u32));
    }
}

/// A linear map of 160 bits, by the images of each.
#[derive(Clone)]
struct Matrix(Vec<Bits>);

impl Matrix {
    fn step() -> Self {
        Self((0..160).map(|bit| step(unit(bit))).collect())
    }

    fn apply(&self, bits: Bits) -> Bits {
        let mut image = [0; 5];
        for (word, part) in bits.iter().enumerate() {
            let mut rest = *part;
            while rest != 0 {
                let column = self.0[word * 32 + rest.trailing_zeros() as usize];
                image.iter_mut().zip(column).for_each(|(to, from)| *to ^= from);
                rest &= rest - 1;
            }
        }
        image
    }

    /// `self` after `first`.
    fn after(&self, first: &Self) -> Self {
        Self(first.0.iter().map(|column| self.apply(*column)).collect())
    }

    fn squared(&self) -> Self {
        self.after(self)
    }

    /// That many steps.
    fn steps(count: u64) -> Self {
        let mut all = Self((0..160).map(unit).collect());
        let mut power = Self::step();
        let mut rest = count;
        while rest != 0 {
            if rest & 1 == 1 {
                all = power.after(&all);
            }
            power = power.squared();
            rest >>= 1;
        }
        all
    }
}

/// From one generator to the next.
static JUMP: LazyLock<Matrix> = LazyLock::new(|| (0..APART).fold(Matrix::step(), |power, _| power.squared()));

/// The vector with this bit alone.
fn unit(bit: usize) -> Bits {
    let mut bits = [0; 5];
    bits[bit / 32] = 1 << (bit % 32);
    bits
}

/// The library's sequence.
#[derive(Clone, Debug)]
pub struct Xorwow {
    states: Vec<State>,
    turn: usize,
}

impl Xorwow {
    /// The sequence of a seed, from this place on.
    #[must_use]
    pub fn new(seed: u64, offset: u64) -> Self {
        let mut state = State::seeded(seed);
        let turn = (offset % STREAMS as u64) as usize;
        let rounds = offset / STREAMS as u64;
        let start = Matrix::steps(rounds);
        let states = (0..STREAMS)
            .map(|number| {
                let mut skipped = state;
                skipped.skip(rounds, &start);
                if number < turn {
                    skipped.next();
                }
                // The counter's growth over 2^67 steps is a multiple of 2^32.
                state.words = JUMP.apply(state.words);
                skipped
            })
            .collect();
        Self { states, turn }
    }

    /// Fills words from the generator whose turn it is.
    pub fn next(&mut self, words: &mut [u32]) {
        let state = &mut self.states[self.turn];
        words.iter_mut().for_each(|word| *word = state.next());
        self.turn = (self.turn + 1) % STREAMS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipping_is_stepping() {
        let mut stepped = State::seeded(5);
        for steps in 0..300 {
            let mut skipped = State::seeded(5);
            skipped.skip(steps, &Matrix::steps(steps));
            assert_eq!((skipped.words, skipped.counter), (stepped.words, stepped.counter), "{steps}");
            stepped.next();
        }
    }

    #[test]
    fn an_offset_is_a_place_in_the_sequence() {
        let words = |offset: u64, count: usize| {
            let mut sequence = Xorwow::new(9, offset);
            let mut one = [0];
            let mut next = || {
                sequence.next(&mut one);
                one[0]
            };
            (0..count).map(|_| next()).collect::<Vec<_>>()
        };
        let all = words(0, 9000);
        for offset in [1, 4095, 4096, 4097, 8193] {
            assert_eq!(words(offset as u64, 100), all[offset..][..100], "{offset}");
        }
    }
}
