//! Keys from seeds.

use super::Key;
use crate::error::{Error, Result};

impl Key {
    /// `jax.random.PRNGKey(seed)` in JAX's 64-bit mode (`jax_enable_x64`): the high 32 bits of the seed are the
    /// first word, the low ones the second. `Key::from(seed)` is the key without that mode, which is JAX's
    /// default and drops the high bits.
    ///
    /// For a `numpy.uint64`, JAX makes the key of the signed number with the same bits: `seed as i64`.
    ///
    /// ```
    /// use treex_core::random::Key;
    ///
    /// assert_eq!(Key::from_seed_x64((1 << 40) + 7).words(), [256, 7]);
    /// assert_eq!(Key::from_seed_x64(-1).words(), [u32::MAX; 2]);
    /// assert_eq!(Key::from(-1).words(), [0, u32::MAX]);
    /// ```
    #[must_use]
    pub fn from_seed_x64(seed: i64) -> Self {
        Self([(seed >> 32) as u32, seed as u32])
    }
}

/// JAX's rule without 64-bit mode: the low 32 bits of the seed.
macro_rules! from_seed {
    ($($int:ty),*) => {$(
        /// `jax.random.PRNGKey(seed)`: the low 32 bits count, as in JAX without 64-bit mode. With that mode:
        /// [`Key::from_seed_x64`].
        impl From<$int> for Key {
            fn from(seed: $int) -> Self {
                Self([0, seed as u32])
            }
        }
    )*};
}

from_seed!(i32, u32, i64, u64);

/// A seed of any size, like a Python integer: [`Key::from`] of it as an `i64`; out of range, an error, as JAX's
/// `OverflowError`.
impl TryFrom<i128> for Key {
    type Error = Error;

    fn try_from(seed: i128) -> Result<Self> {
        let in_range = i64::try_from(seed).map(Self::from);
        in_range.map_err(|_| {
            Error::argument("the seed is too large")
                .expected("64 bits")
                .found(seed)
                .remedy("take its low 64 bits, or a hash of it")
        })
    }
}
