//! Trees on disk and on screen.

pub mod checkpoint;
pub mod summary;
