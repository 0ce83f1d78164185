//! Trees: the `TreeObject` trait, kinds, leaves, filters, and the methods of every tree.
//!
//! In reading order: [`kind`](mod@kind) (what a leaf is for), [`leaf`] (a field that holds a tensor), [`handle`] (the
//! shared cell behind it, and when it is written in place), [`object`] (the trait), [`filter`], [`flat`],
//! [`verbs`] (the methods of every tree).

mod cast;
mod containers;
pub mod filter;
pub mod flat;
mod freeze;
pub mod handle;
pub mod kind;
pub mod leaf;
pub mod map_key;
pub mod mode;
pub mod module;
pub mod object;
pub mod path;
pub(crate) mod set_mode;
pub(crate) mod update;
pub mod verbs;
pub(crate) mod walk;
