//! A number that a state remembers.

use candle_core::{Device, Tensor};
use treex_core::{Leaf, OptState, Result, TreeObject, Visitor, VisitorMut};

use crate::host::number;

/// A number: one leaf, an f64 without dimensions. It is written on the host, where each step is decided from
/// it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar(Leaf<OptState>);

impl Scalar {
    /// A number to begin with.
    ///
    /// # Errors
    /// If Candle cannot allocate.
    pub fn new(value: f64) -> Result<Self> {
        Ok(Self(Leaf::new(Tensor::new(value, &Device::Cpu)?)?))
    }

    /// The number.
    ///
    /// # Errors
    /// If the leaf was filtered out, or holds something else than a number.
    pub fn get(&self) -> Result<f64> {
        number(&self.0.get()?)
    }

    /// Remembers another one.
    ///
    /// # Errors
    /// If Candle cannot allocate.
    pub fn set(&mut self, value: f64) -> Result<()> {
        self.0.set(Tensor::new(value, &Device::Cpu)?)
    }
}

/// A number is a leaf.
impl TreeObject for Scalar {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.0.visit(visitor);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        self.0.visit_mut(visitor);
    }
}
