//! Numbers in a state. Each is one scalar leaf, stored on the CPU, where each step's constants are computed.

use candle_core::{Device, Tensor};
use treex_core::{Leaf, OptState, Result, TreeObject, Visitor, VisitorMut};

use crate::transfer::{to_f64, to_host};

/// A count of steps: one leaf, a scalar i64 on the CPU, where the bias corrections and the learning rate of
/// each step are computed from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Count(Leaf<OptState>);

impl Count {
    /// A count of 0.
    ///
    /// # Errors
    /// If allocation fails.
    pub fn zero() -> Result<Self> {
        Self::of(0)
    }

    /// A number of steps.
    pub(crate) fn of(steps: u64) -> Result<Self> {
        let steps = i64::try_from(steps).unwrap_or(i64::MAX);
        Ok(Self(Leaf::new(Tensor::new(steps, &Device::Cpu)?)?))
    }

    /// The number of steps.
    ///
    /// # Errors
    /// If the leaf was filtered out, or is not a scalar i64.
    pub fn get(&self) -> Result<u64> {
        Ok(to_host(&self.0.get()?)?.to_scalar::<i64>()?.max(0).unsigned_abs())
    }

    /// Adds one step, saturating at the largest count, and returns the new count.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn advance(&mut self) -> Result<u64> {
        let next = to_host(&self.0.get()?)?.to_scalar::<i64>()?.max(0).saturating_add(1);
        self.0.set(Tensor::new(next, &Device::Cpu)?)?;
        Ok(next.unsigned_abs())
    }
}

/// A number: one leaf, a scalar f64 on the CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar(Leaf<OptState>);

impl Scalar {
    /// A leaf with this value.
    ///
    /// # Errors
    /// If allocation fails.
    pub fn new(value: f64) -> Result<Self> {
        Ok(Self(Leaf::new(Tensor::new(value, &Device::Cpu)?)?))
    }

    /// The value.
    ///
    /// # Errors
    /// If the leaf was filtered out, or is not a scalar.
    pub fn get(&self) -> Result<f64> {
        to_f64(&self.0.get()?)
    }

    /// Writes another value.
    ///
    /// # Errors
    /// If allocation fails.
    pub fn set(&mut self, value: f64) -> Result<()> {
        self.0.set(Tensor::new(value, &Device::Cpu)?)
    }
}

/// Each is a leaf itself: it adds no segment to paths.
macro_rules! leaf {
    ($($scalar:ident),*) => {$(
        treex_core::tree_aux!([] $scalar);

        impl TreeObject for $scalar {
            fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
                self.0.visit(visitor);
            }

            fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
                self.0.visit_mut(visitor);
            }
        }
    )*};
}

leaf!(Count, Scalar);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_saturate() {
        let mut count = Count::zero().unwrap();
        assert_eq!((count.get().unwrap(), count.advance().unwrap(), count.get().unwrap()), (0, 1, 1));
        count.0.set(Tensor::new(i64::MAX, &Device::Cpu).unwrap()).unwrap();
        assert_eq!(count.advance().unwrap(), i64::MAX.unsigned_abs());
    }
}
