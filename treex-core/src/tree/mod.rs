//! Trees: the protocol, kinds, leaves, filters, and the verbs on top of them.
//!
//! In reading order: [`kind`](mod@kind) (what a leaf is for), [`leaf`] (a field that holds a tensor), [`handle`] (the
//! shared cell behind it, and when it is written in place), [`object`] (what a tree is), [`filter`], [`flat`],
//! [`verbs`] (everything that can be done with any tree).

mod containers;
pub mod filter;
pub mod flat;
mod freeze;
pub mod handle;
pub mod kind;
pub mod leaf;
pub mod mode;
pub mod module;
pub mod object;
pub mod path;
pub(crate) mod set_mode;
pub(crate) mod update;
pub mod verbs;
pub(crate) mod walk;
