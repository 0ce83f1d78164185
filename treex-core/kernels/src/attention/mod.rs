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
mod sizes;
#[cfg(test)]
mod tests;
mod view;

use half::{bf16, f16};

use crate::error::Result;
use crate::float::Float;

pub use forward::{Inputs, Outputs, RowStatistics};
pub use modifiers::Modifiers;
pub use sizes::{KEY_TILE, QUERY_TILE, Sizes};
pub use view::StridedView;

/// The kernels for devices, of [rows](crate::dialect::ROWS) behind [threefry](crate::dialect::THREEFRY), with `HAS_BIAS`, `HAS_MASK`,
/// `IS_CAUSAL`, `HAS_DROPOUT` and `IS_SHARED` defined.
pub const DIALECT: &str = include_str!("attention.h");

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
