//! The number of steps so far.

use candle_core::{Device, Tensor};
use treex_core::{Leaf, OptState, Result, TreeObject, Visitor, VisitorMut};

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

/// A count is a leaf.
impl TreeObject for Count {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.0.visit(visitor);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        self.0.visit_mut(visitor);
    }
}

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
