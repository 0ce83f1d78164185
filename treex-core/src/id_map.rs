//! Maps keyed by identifiers and addresses. No adversary chooses these, so a multiplicative hash suffices.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map keyed by numbers, such as tensor ids.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// A set of numbers, such as tensor ids.
pub type IdSet<K> = HashSet<K, BuildHasherDefault<Spread>>;

/// Spreads a number over all bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
