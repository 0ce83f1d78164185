//! Random numbers by their flat index, with the bits of JAX: [`threefry`] hashes a key and an index to two random
//! words, of which a [`sampler`] makes a sample. Any part of an array can be computed alone, on any number of
//! threads.

pub mod bernoulli;
pub mod sampler;
pub mod threefry;
