//! The seal of this crate's traits: private, so that no other crate implements them.

/// Seals traits of this crate whose methods rely on properties of the implementing types.
pub trait Sealed {}

impl Sealed for f32 {}
impl Sealed for f64 {}
impl Sealed for half::bf16 {}
impl Sealed for half::f16 {}
