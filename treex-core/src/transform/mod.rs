//! Transformations of functions of trees: gradients and derivatives of any order, scans, rematerialization, `vmap`.

pub mod auxiliary;
pub mod check_gradients;
pub(crate) mod differentiation;
pub mod grad;
pub mod hessian;
pub mod jvp;
pub mod mixed_precision;
pub mod per_example;
pub(crate) mod pull_back;
pub(crate) mod recompute;
pub mod remat;
pub mod scan;
pub(crate) mod scope;
pub mod stack;
pub mod unreached;
pub mod vjp;
