//! Transformations of functions of trees: gradients, scans, rematerialization, `vmap`.

pub mod grad;
pub(crate) mod pull_back;
pub(crate) mod recompute;
pub mod remat;
pub mod scan;
pub(crate) mod scope;
pub mod stack;
