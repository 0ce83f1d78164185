//! Checkpoints and summaries.

pub mod checkpoint;
mod container;
mod file;
pub mod summary;
