//! Numbers in a state. Each is one leaf without dimensions, stored on the CPU, where every step is decided from it.

use candle_core::{Device, Tensor};
use treex_core::{Leaf, OptState, Result, TreeObject, Visitor, VisitorMut};

use crate::transfer::to_f64;

/// A count of steps: one leaf, an i64 without dimensions. It stays on the host, since the bias correction and
/// the learning rate of each step are computed from it there.
#[derive(Clone, Debug, PartialEq)]
pub struct Count(Leaf<OptState>);

impl Count {
    /// No steps.
    ///
    /// # Errors
    /// If Candle cannot allocate.
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
    /// If the leaf was filtered out, or holds something else than a count.
    pub fn get(&self) -> Result<u64> {
        Ok(self.0.get()?.to_scalar::<i64>()?.max(0).unsigned_abs())
    }

    /// One step more, and the number that makes. It stays at the largest that there is.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn advance(&mut self) -> Result<u64> {
        let next = self.0.get()?.to_scalar::<i64>()?.max(0).saturating_add(1);
        self.0.set(Tensor::new(next, &Device::Cpu)?)?;
        Ok(next.unsigned_abs())
    }
}

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
        to_f64(&self.0.get()?)
    }

    /// Remembers another one.
    ///
    /// # Errors
    /// If Candle cannot allocate.
    pub fn set(&mut self, value: f64) -> Result<()> {
        self.0.set(Tensor::new(value, &Device::Cpu)?)
    }
}

/// Each is a leaf itself, without a name of its own in paths.
macro_rules! leaf {
    ($($scalar:ident),*) => {$(
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
    fn the_largest_count_stays() {
        let mut count = Count::zero().unwrap();
        assert_eq!((count.get().unwrap(), count.advance().unwrap(), count.get().unwrap()), (0, 1, 1));
        count.0.set(Tensor::new(i64::MAX, &Device::Cpu).unwrap()).unwrap();
        assert_eq!(count.advance().unwrap(), i64::MAX.unsigned_abs());
    }
}
