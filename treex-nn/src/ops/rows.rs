//! Sums over axes, and their transpose: broadcasting along axes.
//!
//! On the CPU both are matrix products with ones, except along the last axis. Candle's own sum over a leading axis,
//! which is also the backward pass of its broadcasts, reads one column after another and takes 10 to 190 times as
//! long; the product runs on all cores and has a gradient.

use std::ops::Range;

use candle_core::{Result, Tensor};
use treex_core::autograd::is_reference;

use crate::dtype::wide_dtype;

/// The sum of `x` over `axes`, ascending, which are kept with size 1; half types are summed in `F32`.
pub(crate) fn sum_over(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let wide = wide_dtype(x.dtype());
    if x.dtype().is_float() && x.dtype() != wide {
        return sum_over(&x.to_dtype(wide)?, axes)?.to_dtype(x.dtype());
    }
    if is_reference() || !x.device().is_cpu() || x.elem_count() == 0 {
        return x.sum_keepdim(axes);
    }
    let mut sum = x.clone();
    for run in adjacent(axes).rev() {
        let (before, len, after) = around(sum.dims(), &run);
        let mut dims = sum.dims().to_vec();
        dims[run].fill(1);
        sum = if after == 1 {
            sum.reshape((before, len))?.sum_keepdim(1)?
        } else {
            ones(&sum, (before, 1, len))?.matmul(&sum.reshape((before, len, after))?)?
        };
        sum = sum.reshape(dims)?;
    }
    Ok(sum)
}

/// `x` broadcast to `dims`; it has their rank. Gradients of half types are summed in `F32`.
pub(crate) fn repeat_to(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    let wide = wide_dtype(x.dtype());
    if x.dtype().is_float() && x.dtype() != wide {
        return repeat_to(&x.to_dtype(wide)?, dims)?.to_dtype(x.dtype());
    }
    if is_reference() || !x.device().is_cpu() || dims.contains(&0) {
        return x.broadcast_as(dims);
    }
    let axes: Vec<usize> = (0..dims.len()).filter(|&axis| x.dims()[axis] != dims[axis]).collect();
    let mut repeated = x.clone();
    for run in adjacent(&axes) {
        let (before, _, after) = around(repeated.dims(), &run);
        let mut longer = repeated.dims().to_vec();
        longer[run.clone()].copy_from_slice(&dims[run.clone()]);
        repeated = if after == 1 {
            repeated.broadcast_as(longer)?
        } else {
            let len = dims[run].iter().product::<usize>();
            ones(x, (before, len, 1))?.matmul(&repeated.reshape((before, 1, after))?)?.reshape(longer)?
        };
    }
    Ok(repeated)
}

fn ones(like: &Tensor, shape: (usize, usize, usize)) -> Result<Tensor> {
    Tensor::ones(shape, like.dtype(), like.device())
}

/// The axes as ranges of adjacent ones.
fn adjacent(axes: &[usize]) -> impl DoubleEndedIterator<Item = Range<usize>> {
    axes.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..run[0] + run.len())
}

/// The products of the sizes before, in and after a range of axes.
fn around(dims: &[usize], run: &Range<usize>) -> (usize, usize, usize) {
    let count = |dims: &[usize]| dims.iter().product();
    (count(&dims[..run.start]), count(&dims[run.clone()]), count(&dims[run.end..]))
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;
    use crate::ops::testing::value_and_gradients;

    #[test]
    fn agree_with_the_reference_compositions() {
        let dims = [2, 3, 4, 5];
        let x = Key::from(0).normal(&dims[..], DType::F64).unwrap();
        for bits in 0..16usize {
            let axes: Vec<usize> = (0..4).filter(|axis| bits >> axis & 1 == 1).collect();
            let sum = |[x]: [&Tensor; 1]| Ok(sum_over(x, &axes)?);
            let one = x.sum_keepdim(axes.as_slice()).unwrap();
            let repeat = |[x]: [&Tensor; 1]| Ok(repeat_to(x, &dims)?);
            let both = || {
                let sum = value_and_gradients([&x], sum).unwrap();
                [sum, value_and_gradients([&one], repeat).unwrap()].concat()
            };
            let (found, expected) = (both(), with_reference(both));
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                assert!((found - expected).abs() < 1e-13, "{axes:?}: {found} {expected}");
            }
        }
    }

    #[test]
    fn empty_tensors() {
        let x = Tensor::zeros((0, 3), DType::F32, &candle_core::Device::Cpu).unwrap();
        assert_eq!(sum_over(&x, &[0]).unwrap().to_vec2::<f32>().unwrap(), [[0.; 3]]);
        assert_eq!(repeat_to(&x.sum_keepdim(0).unwrap(), &[0, 3]).unwrap().dims(), [0, 3]);
    }
}
