//! Flax's multi-head attention, with its decoding cache.

mod cache;
mod multi_head;

pub use cache::KvCache;
pub use multi_head::{MultiHeadAttention, MultiHeadDotProductAttention, SelfAttention};
