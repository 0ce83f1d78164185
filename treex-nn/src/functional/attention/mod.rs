//! Scaled dot-product attention, its masks, and rotary position embeddings.

pub(crate) mod dot_product_attention;
pub(crate) mod masks;
mod rotary;

pub use dot_product_attention::{AttentionOptions, dot_product_attention, dot_product_attention_weights};
pub use masks::{combine_masks, make_attention_mask, make_causal_mask};
pub use rotary::Rotary;
