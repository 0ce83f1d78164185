//! The sizes of an attention, and of its tiles.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::math::Real;
use crate::memory::product;
use crate::microkernel::PANEL;

/// Queries of a tile: they, and what belongs to them, fit into a core's L1 cache.
pub const QUERY_TILE: usize = 32;

/// Keys of a tile.
pub const KEY_TILE: usize = 256;

/// Elements from one row of a tile of scores to the next: no power of two, which would map all rows to few cache sets.
pub(super) const SCORES_STRIDE: usize = KEY_TILE + 16;

/// Fewer multiplications than this run on the calling thread.
const PARALLEL: usize = 1 << 18;

/// The sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// All batch dimensions in one.
    pub batch: usize,
    /// Queries of an item of the batch.
    pub queries: usize,
    /// Keys and values of an item of the batch.
    pub keys: usize,
    /// Heads of queries, a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a query and of a key.
    pub depth: usize,
    /// Elements of a value.
    pub value_depth: usize,
}

impl Sizes {
    pub(super) fn check(&self) -> Result<()> {
        let Self { batch, queries, keys, heads, kv_heads, depth, value_depth } = *self;
        if [batch, queries, keys, heads, kv_heads, depth, value_depth].contains(&0) {
            return Err(Error::shape("an attention has an empty input", "no size of 0", format!("{self:?}")));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(Error::shape(
                "heads of queries must share heads of keys evenly",
                format!("a multiple of {kv_heads} heads"),
                heads,
            ));
        }
        let arrays = [
            [batch, queries, heads, depth],
            [batch, queries, heads, value_depth],
            [batch, keys, kv_heads, depth],
            [batch, keys, kv_heads, value_depth],
        ];
        // What a thread packs: whole panels, of which a tile of queries has some too.
        let padded = |size: usize| size.checked_next_multiple_of(PANEL);
        let padded = (padded(keys), padded(depth), padded(value_depth));
        let packed = |(keys, depth, value_depth): (Option<usize>, Option<usize>, Option<usize>)| {
            product([keys?.max(QUERY_TILE), depth?.max(value_depth?)])
        };
        if arrays.into_iter().all(|sizes| product(sizes).is_some()) && packed(padded).is_some() {
            return Ok(());
        }
        Err(Error::shape("an attention is too large", "at most `usize::MAX` elements", format!("{self:?}")))
    }

    pub(super) fn is_large(&self) -> bool {
        [self.batch, self.heads, self.queries, self.keys, self.depth + self.value_depth]
            .into_iter()
            .fold(1, usize::saturating_mul)
            >= PARALLEL
    }

    /// The factor of scores.
    pub(super) fn scale<R: Real>(&self) -> R {
        R::of(1. / (self.depth as f64).sqrt())
    }

    /// The heads of queries that share a head of keys.
    pub(super) fn group(&self, kv_head: usize) -> Range<usize> {
        let group = self.heads / self.kv_heads;
        kv_head * group..(kv_head + 1) * group
    }

    pub(super) fn padded_keys(&self) -> usize {
        self.keys.next_multiple_of(PANEL)
    }

    pub(super) fn padded_depth(&self) -> usize {
        self.depth.next_multiple_of(PANEL)
    }

    pub(super) fn padded_value_depth(&self) -> usize {
        self.value_depth.next_multiple_of(PANEL)
    }
}
