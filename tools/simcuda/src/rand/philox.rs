//! Philox 4x32 of 10 rounds (Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, 2011).
//!
//! The library runs 65536 of them in turn, which differ in the upper half of the counter, each for a block of four words.
//! The key is the seed.

/// The block of four words of a counter and a key.
fn block(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut words = counter;
    let mut key = key;
    for _ in 0..10 {
        let wide = |factor: u32, word: u32| {
            let product = u64::from(factor) * u64::from(word);
            ((product >> 32) as u32, product as u32)
        };
        let (high0, low0) = wide(0xd251_1f53, words[0]);
        let (high1, low1) = wide(0xcd9e_8d57, words[2]);
        words = [high1 ^ words[1] ^ key[0], low1, high0 ^ words[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    words
}

/// Generators that run in turn.
const STREAMS: u64 = 1 << 16;

/// The library's sequence.
#[derive(Clone, Debug)]
pub struct Philox {
    key: [u32; 2],
    place: u64,
}

impl Philox {
    /// The sequence of a seed, from this place on.
    #[must_use]
    pub fn new(seed: u64, offset: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], place: offset }
    }

    /// Fills words with the next ones.
    pub fn next(&mut self, words: &mut [u32]) {
        for word in words {
            let (number, within) = (self.place / 4, self.place % 4);
            let (round, stream) = (number / STREAMS, number % STREAMS);
            *word = block([round as u32, (round >> 32) as u32, stream as u32, 0], self.key)[within as usize];
            self.place += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that Random123 publishes (`kat_vectors`, philox4x32 of 10 rounds).
    #[test]
    fn known_answers_of_random123() {
        for (counter, key, expected) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(block(counter, key), expected);
        }
    }
}
