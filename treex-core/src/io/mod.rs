//! Checkpoints and summaries.

pub mod checkpoint;
mod container;
mod file;
mod origins;
pub mod summary;
