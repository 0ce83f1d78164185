//! One-hot vectors.

use candle_core::{DType, Tensor};
use treex_core::constants::arange;
use treex_core::size::check_size;
use treex_core::{Error, Result};

use crate::axes::position;

/// One-hot vectors of `F32` on a new dimension at `axis`: 1 at the index that the integer names, 0 elsewhere;
/// all 0 for an integer outside of `0..num_classes`. Negative axes count from the end; Flax's default is -1.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let labels = Tensor::new(&[2u32, 0], &Device::Cpu)?;
/// let y = treex_nn::one_hot(&labels, 3, -1)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0., 0., 1.], [1., 0., 0.]]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If `x` does not hold integers, or `axis` is out of range.
pub fn one_hot(x: &Tensor, num_classes: usize, axis: isize) -> Result<Tensor> {
    let rank = x.rank() + 1;
    let Some(index) = position(axis, rank).filter(|_| x.dtype().is_int()) else {
        return Err(Error::argument("`one_hot` cannot make vectors of its input")
            .expected(format!("integers, and an axis from -{rank} to {}", rank - 1))
            .found(format!("`{}` and axis {axis}", x.dtype().as_str())));
    };
    let mut shape = vec![1; rank];
    shape[index] = num_classes;
    let all = [&x.dims()[..index], &[num_classes], &x.dims()[index..]].concat();
    check_size(&all.into(), DType::I64)?;
    let classes = arange(num_classes, x.device())?.reshape(shape)?;
    Ok(x.to_dtype(DType::I64)?.unsqueeze(index)?.broadcast_eq(&classes)?.to_dtype(DType::F32)?)
}
