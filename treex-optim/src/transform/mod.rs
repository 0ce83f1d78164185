//! The transformations, one a file, each with its state directly above it.

pub(crate) mod add_decayed_weights;
pub(crate) mod clip_by_global_norm;
pub(crate) mod scale;
pub(crate) mod scale_by_adam;
pub(crate) mod scale_by_learning_rate;
pub(crate) mod scale_by_schedule;
pub(crate) mod trace;
