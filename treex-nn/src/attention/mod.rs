//! Attention: the function, its masks, rotary positions, and Flax's multi-head layer with its decoding cache.

mod cache;
mod dot_product_attention;
mod masks;
mod multi_head;
mod rotary;

pub use cache::KvCache;
pub use dot_product_attention::{AttentionOptions, dot_product_attention, dot_product_attention_weights};
pub use masks::{combine_masks, make_attention_mask, make_causal_mask};
pub use multi_head::{MultiHeadAttention, MultiHeadDotProductAttention, SelfAttention};
pub use rotary::Rotary;
