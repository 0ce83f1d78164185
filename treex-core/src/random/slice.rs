//! Slices of a longer draw, for instance one rank's shard of a parameter.

use candle_core::{DType, Shape, Tensor};

use super::Bernoulli;
use super::Key;
use super::distribution::{Normal, TruncatedNormal, Uniform};
use crate::error::Result;

/// A key with the flat index to start from; see [`Key::slice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySlice {
    key: Key,
    start: u64,
}

impl Key {
    /// Draws from the flat index `start` on: row `r` of a tensor of shape `[rows, columns]` alone is
    /// `key.slice(r * columns).normal(columns, dtype)`.
    ///
    /// ```
    /// use candle_core::DType;
    /// use treex_core::random::Key;
    ///
    /// let key = Key::from(42);
    /// let (whole, row) = (key.normal((4, 3), DType::F32)?, key.slice(2 * 3).normal(3, DType::F32)?);
    /// assert_eq!(row.to_vec1::<f32>()?, whole.get(2)?.to_vec1::<f32>()?);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    #[must_use]
    pub fn slice(self, start: u64) -> KeySlice {
        KeySlice { key: self, start }
    }
}

/// Each method equals that of [`Key`], with the same errors.
impl KeySlice {
    /// Uniform on [0, 1).
    ///
    /// # Errors
    /// As [`Key::uniform`].
    pub fn uniform(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.uniform_between(shape, dtype, 0., 1.)
    }

    /// Uniform on [minval, maxval).
    ///
    /// # Errors
    /// As [`Key::uniform_between`].
    pub fn uniform_between(
        self,
        shape: impl Into<Shape>,
        dtype: DType,
        minval: f64,
        maxval: f64,
    ) -> Result<Tensor> {
        self.key.draw_from(self.start, shape, dtype, Uniform { minval, maxval })
    }

    /// Standard normal.
    ///
    /// # Errors
    /// As [`Key::normal`].
    pub fn normal(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.key.draw_from(self.start, shape, dtype, Normal)
    }

    /// Standard normal, truncated to (lower, upper).
    ///
    /// # Errors
    /// As [`Key::truncated_normal`].
    pub fn truncated_normal(
        self,
        lower: f64,
        upper: f64,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        self.key.draw_from(self.start, shape, dtype, TruncatedNormal { lower, upper })
    }

    /// 1 with probability `p`, else 0, as `U8`.
    ///
    /// # Errors
    /// As [`Key::bernoulli`].
    pub fn bernoulli(self, p: f64, shape: impl Into<Shape>) -> Result<Tensor> {
        let bernoulli = Bernoulli::new(super::discrete::probability(p)?);
        self.key.sample(self.start, shape, move |block| u8::from(bernoulli.sample(block)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_a_part_of_the_whole() -> Result<()> {
        let key = Key::from(7);
        let part = |whole: Tensor| whole.narrow(0, 1000, 77);
        let same = |a: Tensor, b: Tensor| {
            let values = |x: Tensor| x.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(values(a), values(b));
        };
        let slice = key.slice(1000);
        for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
            same(slice.uniform(77, dtype)?, part(key.uniform(3000, dtype)?)?);
            let between = key.uniform_between(3000, dtype, -1., 2.)?;
            same(slice.uniform_between(77, dtype, -1., 2.)?, part(between)?);
            same(slice.normal(77, dtype)?, part(key.normal(3000, dtype)?)?);
            same(
                slice.truncated_normal(-2., 1., 77, dtype)?,
                part(key.truncated_normal(-2., 1., 3000, dtype)?)?,
            );
        }
        same(slice.bernoulli(0.3, 77)?, part(key.bernoulli(0.3, 3000)?)?);
        assert!(slice.bernoulli(f64::NAN, 3).is_err() && slice.normal(3, DType::U8).is_err());
        Ok(())
    }
}
