//! Pooling: average, maximum or minimum over windows of the spatial dimensions, for each channel.
//!
//! Inputs are `[batch.., *spatial, channels]`, with the window's number of spatial dimensions and any number
//! of batch dimensions. Flax's default strides are 1. Paddings are those of [`Conv`](crate::Conv); Flax has
//! [`Padding::Valid`], [`Padding::Same`] and pairs of numbers.
//!
//! Poolings are functions; in a [`Sequential`](crate::Sequential), write
//! `.add_fn(|x| max_pool(x, [2, 2], 2, Padding::Valid))`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use treex_nn::{Padding, avg_pool, max_pool, min_pool};
//!
//! let images = Tensor::ones((2, 28, 27, 3), DType::F32, &Device::Cpu)?;
//! assert_eq!(max_pool(&images, [2, 2], 2, Padding::Valid)?.dims(), [2, 14, 13, 3]);
//! assert_eq!(min_pool(&images, [3, 3], [2, 1], Padding::Same)?.dims(), [2, 14, 27, 3]);
//! assert_eq!(avg_pool(&images, [28, 27], 1, Padding::Valid, true)?.dims(), [2, 1, 1, 3]);
//! # Ok::<(), treex_core::Error>(())
//! ```

use candle_core::{DType, Tensor};
use treex_core::size::check_size;
use treex_core::{Error, Result};

use crate::dtype::{common_dtype, wide_dtype};
use crate::ops::im2col::Axis;
use crate::ops::pooling::{Reduction, fold_windows, reduce_windows};
use crate::spatial::padding::{Padding, ResolvedPadding};
use crate::spatial::sizes::Sizes;

/// The average over each window. `count_include_pad` (Flax's default: true) says whether zeros of the padding
/// count; if not, the average of a window of padding alone is NaN.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_nn::{Padding, avg_pool};
/// let sequence = Tensor::new(&[[1f32], [2.], [4.], [3.]], &Device::Cpu)?;
/// let y = avg_pool(&sequence, [3], 1, Padding::Same, false)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.5], [7. / 3.], [3.], [3.5]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the input has fewer dimensions than window and channels; if a size of the window or a stride is 0; if
/// the number of strides or paddings differs from that of the spatial dimensions.
pub fn avg_pool(
    x: &Tensor,
    window_shape: impl Into<Vec<usize>>,
    strides: impl Into<Sizes>,
    padding: impl Into<Padding>,
    count_include_pad: bool,
) -> Result<Tensor> {
    let pooling = Pooling::new("avg_pool", x, window_shape.into(), strides.into(), padding.into())?;
    pooling.run(|x, axes| reduce_windows(x, axes, Reduction::Average { counts_padding: count_include_pad }))
}

/// The maximum of each window. Among equal elements, the gradient goes to the first in row-major order. A
/// window of padding alone gives negative infinity.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_nn::{Padding, max_pool};
/// let sequence = Tensor::new(&[[1f32], [2.], [4.], [3.]], &Device::Cpu)?;
/// assert_eq!(max_pool(&sequence, [2], 2, Padding::Valid)?.to_vec2::<f32>()?, [[2.], [4.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`avg_pool`].
pub fn max_pool(
    x: &Tensor,
    window_shape: impl Into<Vec<usize>>,
    strides: impl Into<Sizes>,
    padding: impl Into<Padding>,
) -> Result<Tensor> {
    let pooling = Pooling::new("max_pool", x, window_shape.into(), strides.into(), padding.into())?;
    pooling.run(|x, axes| reduce_windows(x, axes, Reduction::Max))
}

/// The minimum of each window. Among equal elements, the gradient goes to the first in row-major order. A
/// window of padding alone gives infinity.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_nn::{Padding, min_pool};
/// let sequence = Tensor::new(&[[1f32], [2.], [4.], [3.]], &Device::Cpu)?;
/// assert_eq!(min_pool(&sequence, [2], 2, Padding::Valid)?.to_vec2::<f32>()?, [[1.], [3.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`avg_pool`].
pub fn min_pool(
    x: &Tensor,
    window_shape: impl Into<Vec<usize>>,
    strides: impl Into<Sizes>,
    padding: impl Into<Padding>,
) -> Result<Tensor> {
    let pooling = Pooling::new("min_pool", x, window_shape.into(), strides.into(), padding.into())?;
    pooling.run(|x, axes| reduce_windows(x, axes, Reduction::Min))
}

/// Any reduction of each window by `reduce_fn`, an associative and commutative elementwise function of two
/// tensors; `init`, its neutral element, is the value of the padding. Gradients flow through `reduce_fn`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_nn::{Padding, pool};
/// let sequence = Tensor::new(&[[1f32], [2.], [4.], [3.]], &Device::Cpu)?;
/// let products = pool(&sequence, 1., |a, b| Ok((a * b)?), [2], 2, Padding::Valid)?;
/// assert_eq!(products.to_vec2::<f32>()?, [[2.], [12.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`avg_pool`], and any error of `reduce_fn`.
pub fn pool(
    x: &Tensor,
    init: f64,
    reduce_fn: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    window_shape: impl Into<Vec<usize>>,
    strides: impl Into<Sizes>,
    padding: impl Into<Padding>,
) -> Result<Tensor> {
    let pooling = Pooling::new("pool", x, window_shape.into(), strides.into(), padding.into())?;
    pooling.run(|x, axes| {
        let first = x.rank() - 1 - axes.len();
        // The last axis first.
        let dims = (first..first + axes.len()).zip(axes).rev();
        let fold = |x: Tensor, (dim, axis)| fold_windows(&x, dim, axis, init, |a, b| Ok(reduce_fn(a, b)?));
        Ok(dims.into_iter().try_fold(x.clone(), fold)?)
    })
}

/// An input `[.., *spatial, channels]` and how the window moves over it.
struct Pooling {
    x: Tensor,
    axes: Vec<Axis>,
    dtype: DType,
}

impl Pooling {
    fn new(name: &str, x: &Tensor, window: Vec<usize>, strides: Sizes, padding: Padding) -> Result<Self> {
        let rank = window.len();
        let window = Sizes::Each(window).each(name, "window_shape", rank)?;
        let strides = strides.each(name, "strides", rank)?;
        let Some(batch_rank) = x.rank().checked_sub(rank + 1) else {
            return Err(Error::shape(format!("`{name}` got an input of too few dimensions"))
                .expected(format!("[.., {rank} spatial dimensions, channels]"))
                .found(format!("{:?}", x.dims())));
        };
        let spatial = batch_rank..batch_rank + rank;
        let dtype = common_dtype(None, [x]);
        let wide = x.to_dtype(wide_dtype(dtype))?;
        let ResolvedPadding { margins, zeros } =
            padding.resolve(name, &x.dims()[spatial], &vec![1; rank], &window, &strides)?;
        let x = padding.extended(&wide, &margins)?;
        let axis =
            |((size, stride), padding)| Axis { size, stride, padding, window_dilation: 1, input_dilation: 1 };
        let axes = window.into_iter().zip(strides).zip(zeros).map(axis).collect();
        Ok(Self { x, axes, dtype })
    }

    fn run(self, reduce: impl Fn(&Tensor, &[Axis]) -> Result<Tensor>) -> Result<Tensor> {
        let dims = self.x.dims();
        let (batch, item) = dims.split_at(dims.len() - 1 - self.axes.len());
        let positions = self.axes.iter().zip(item).map(|(axis, &n)| axis.positions(n));
        let dims: Vec<usize> = batch.iter().copied().chain(positions).chain(item.last().copied()).collect();
        check_size(&dims.as_slice().into(), self.x.dtype())?;
        let y = if dims.contains(&0) {
            self.x.flatten_all()?.narrow(0, 0, 0)?.reshape(dims)?
        } else {
            reduce(&self.x, &self.axes)?
        };
        Ok(y.to_dtype(self.dtype)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::{ErrorKind, Key};

    use super::*;

    fn input(shape: &[usize]) -> Tensor {
        Key::from(0).normal(shape, DType::F32).unwrap()
    }

    #[test]
    fn errors() {
        let error = max_pool(&input(&[4, 2]), [2, 2], 1, Padding::Valid).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert_eq!(
            error.to_string(),
            "`max_pool` got an input of too few dimensions: expected [.., 2 spatial dimensions, channels], \
             found [4, 2]"
        );
        for (window, strides) in [([0, 2], [1, 1]), ([2, 2], [1, 0])] {
            let error = avg_pool(&input(&[4, 4, 1]), window, strides, Padding::Valid, true).unwrap_err();
            assert!(error.to_string().contains("a number above 0"), "{error}");
        }
        assert!(min_pool(&input(&[4, 4, 1]), [2, 2], [1], Padding::Valid).is_err());
        assert!(min_pool(&input(&[4, 4, 1]), [2, 2], 1, [(1, 1)]).is_err());
        let error = max_pool(&input(&[4, 4, 1]), [2, 2], 1, -3).unwrap_err().to_string();
        assert!(error.starts_with("`max_pool` has a padding that crops more than its input has"), "{error}");
    }

    #[test]
    fn element_types() -> Result<()> {
        let x = input(&[1, 5, 2]);
        for dtype in [DType::F16, DType::BF16, DType::F64] {
            assert_eq!(avg_pool(&x.to_dtype(dtype)?, [2], 1, 0, true)?.dtype(), dtype);
        }
        let integers = Tensor::new(&[[1i64], [4], [2]], &Device::Cpu)?;
        assert_eq!(max_pool(&integers, [2], 1, Padding::Valid)?.to_vec2::<f32>()?, [[4.], [4.]]);
        Ok(())
    }

    /// Windows of padding alone, and windows over an empty input.
    #[test]
    fn degenerate() -> Result<()> {
        let x = input(&[1, 1, 1]);
        let beside = [(2, 0)];
        assert_eq!(max_pool(&x, [2], 2, beside)?.flatten_all()?.to_vec1::<f32>()?, [f32::NEG_INFINITY]);
        assert!(avg_pool(&x, [2], 2, beside, false)?.sum_all()?.to_scalar::<f32>()?.is_nan());
        for dims in [[0, 3, 2], [2, 0, 2], [2, 3, 0]] {
            let y = max_pool(&input(&dims), [2], 1, Padding::Valid)?;
            assert_eq!(y.dims(), [dims[0], dims[1].saturating_sub(1), dims[2]]);
            let y = avg_pool(&input(&dims), [2], 1, [(1, 1)], true)?;
            assert_eq!(y.dims(), [dims[0], dims[1] + 1, dims[2]]);
        }
        // A window larger than the input fits nowhere; a window without dimensions changes nothing.
        assert_eq!(max_pool(&input(&[1, 2, 1]), [3], 1, Padding::Valid)?.dims(), [1, 0, 1]);
        assert_eq!(avg_pool(&x, [], 1, Padding::Valid, true)?.dims(), [1, 1, 1]);
        // Circular padding, and padding on one side only.
        let x = Tensor::new(&[[1f32], [2.], [4.]], &Device::Cpu)?;
        assert_eq!(avg_pool(&x, [2], 1, Padding::Circular, true)?.to_vec2::<f32>()?, [[1.5], [3.], [2.5]]);
        assert_eq!(avg_pool(&x, [2], 1, Padding::Causal, false)?.to_vec2::<f32>()?, [[1.], [1.5], [3.]]);
        Ok(())
    }
}
