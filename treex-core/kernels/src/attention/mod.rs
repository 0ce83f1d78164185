//! Attention without its scores in memory, and its gradient (Dao et al., 2022; Rabe and Staats, 2021).
//!
//! `y = dropout(softmax(mask(q · kᵀ / √depth + bias))) · v` for each head, in tiles of [`QUERY_TILE`] queries by
//! [`KEY_TILE`] keys: scores exist for one tile at a time. Forward keeps a running softmax (Milakov and Gimelshein,
//! 2018) and saves its [`RowStatistics`]; backward computes scores again and normalizes them by these.
//!
//! Layouts: queries and `y` are `[batch, queries, heads, depth]`, keys and values `[batch, keys, kv_heads, depth]`, and
//! what modifies scores is `[batch, heads, queries, keys]`. Inputs are [`StridedView`]s, so that heads are read in
//! place, without a transpose. Half types are computed in `f32` from end to end and rounded once.
//!
//! One thread takes one head of keys with all heads of queries that share it; forward also splits the queries where
//! there are fewer of these heads than threads.

mod backward;
mod forward;
mod modifiers;
mod packing;
mod view;

use std::ops::Range;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::float::Float;
use crate::math::Real;
use crate::microkernel::PANEL;

pub use forward::{Inputs, Outputs, RowStatistics};
pub use modifiers::Modifiers;
pub use view::StridedView;

entry_points! {
    /// Scaled dot-product attention, forward and backward.
    pub trait Attention: Float for [f32, f64, bf16, f16] {
        /// `y`, `[batch, queries, heads, value_depth]`, and statistics of the rows of scores,
        /// `[batch, heads, queries]`.
        ///
        /// # Errors
        /// If a size is 0, sizes and views do not fit together, or memory cannot be allocated.
        fn attention(inputs: &Inputs<'_, Self>) -> Result<Outputs<Self>> = forward::forward;

        /// The gradients of query, key and value, contiguous; empty where `wanted` is false.
        ///
        /// `statistics` and `y` are the results of [`attention`](Self::attention) for the same inputs; `dy` is the
        /// gradient of `y`.
        ///
        /// # Errors
        /// As [`attention`](Self::attention).
        fn attention_backward(
            inputs: &Inputs<'_, Self>,
            statistics: &[RowStatistics<Self::Wide>],
            y: &StridedView<'_, Self>,
            dy: &StridedView<'_, Self>,
            wanted: [bool; 3],
        ) -> Result<[Vec<Self>; 3]> = backward::backward;
    }
}

/// Queries of a tile: they, and what belongs to them, fit into a core's L1 cache.
pub const QUERY_TILE: usize = 32;

/// Keys of a tile.
pub const KEY_TILE: usize = 256;

/// Elements from one row of a tile of scores to the next: no power of two, which would map all rows to few cache sets.
const SCORES_STRIDE: usize = KEY_TILE + 16;

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
    fn check(&self) -> Result<()> {
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
        let fits = |sizes: [usize; 4]| sizes.into_iter().try_fold(1usize, usize::checked_mul).is_some();
        if arrays.into_iter().all(fits) {
            return Ok(());
        }
        Err(Error::shape("an attention is too large", "at most `usize::MAX` elements", format!("{self:?}")))
    }

    fn is_large(&self) -> bool {
        [self.batch, self.heads, self.queries, self.keys, self.depth + self.value_depth]
            .into_iter()
            .fold(1, usize::saturating_mul)
            >= PARALLEL
    }

    /// The factor of scores.
    fn scale<R: Real>(&self) -> R {
        R::of(1. / (self.depth as f64).sqrt())
    }

    /// The heads of queries that share a head of keys.
    fn group(&self, kv_head: usize) -> Range<usize> {
        let group = self.heads / self.kv_heads;
        kv_head * group..(kv_head + 1) * group
    }

    fn padded_keys(&self) -> usize {
        self.keys.next_multiple_of(PANEL)
    }

    fn padded_depth(&self) -> usize {
        self.depth.next_multiple_of(PANEL)
    }

    fn padded_value_depth(&self) -> usize {
        self.value_depth.next_multiple_of(PANEL)
    }
}

#[cfg(test)]
mod tests;
