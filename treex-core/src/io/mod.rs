//! Checkpoints and summaries.

pub mod checkpoint;
pub mod summary;
