//! Items as vectors.

use candle_core::Tensor;
use treex_core::autograd::reshape;
use treex_core::{Error, TreeObject, record};

/// `[batch, ..]` as `[batch, features]`: from images or feature maps to a [`Linear`](crate::Linear).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Flatten, prelude::*};
///
/// let images = Tensor::ones((2, 8, 6, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(Flatten.call(&images)?.dims(), [2, 144]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, TreeObject)]
pub struct Flatten;

impl candle_core::Module for Flatten {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let Some((&batch, item)) = x.dims().split_first() else {
            return Err(Error::shape("`Flatten` got an input without a batch dimension")
                .expected("[batch, ..]")
                .found("[]")
                .of(self.identity())
                .into());
        };
        let y = reshape(x, (batch, item.iter().product::<usize>()))?;
        record(self, x, &y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use treex_core::{Result, prelude::*};

    use super::*;

    #[test]
    fn of_any_rank() -> Result<()> {
        let flat = |shape: &[usize]| Flatten.call(&Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
        assert_eq!(flat(&[3])?.dims(), [3, 1]);
        assert_eq!(flat(&[0, 2, 3])?.dims(), [0, 6]);
        assert_eq!(flat(&[2, 0, 3])?.dims(), [2, 0]);
        let error = flat(&[]).unwrap_err().to_string();
        assert!(
            error.starts_with("`Flatten` got an input without a batch dimension: expected [batch, ..]"),
            "{error}"
        );
        Ok(())
    }
}
