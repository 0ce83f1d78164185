//! Poolings as operations on tensors: reductions over windows, all axes at once.
//!
//! The kernels are [`treex_kernels::pooling`]. Candle's backward passes of its own poolings are wrong where
//! windows overlap or do not cover the input, and its maximum's by a factor everywhere; these have their own.

use std::marker::PhantomData;

use candle_core::{DType, Device, Tensor};
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::constants::constant;
use treex_core::device::has_kernels;
use treex_core::device::pooling::{self as device, Windows};
use treex_core::{Result, match_float};
pub(crate) use treex_kernels::pooling::Reduction;
use treex_kernels::pooling::{Plan, Pooling, Taps};
use treex_kernels::window::Axis;

/// `x`, `[batch.., *spatial, channels]`, as `[batch.., *positions, channels]`; in `F32` and `F64`. No axis
/// has a dilation.
pub(crate) fn reduce_windows(x: &Tensor, axes: &[Axis], reduction: Reduction) -> Result<Tensor> {
    let (batch, item) = x.dims().split_at(x.rank() - 1 - axes.len());
    let positions = axes.iter().zip(item).map(|(axis, &n)| axis.positions(n));
    let dims: Vec<usize> = batch.iter().copied().chain(positions).chain([item[axes.len()]]).collect();
    if is_reference() || !has_kernels(x) || x.elem_count() == 0 || axes.is_empty() {
        return Ok(reference(x, axes, reduction)?);
    }
    if !x.device().is_cpu() {
        let windows = Windows::new(batch.iter().product(), &item[..axes.len()], item[axes.len()], axes)?;
        return match windows {
            Some(windows) => on_device(windows, x, reduction, dims),
            None => Ok(reference(x, axes, reduction)?),
        };
    }
    let plan = || Plan::new(batch.iter().product(), &item[..axes.len()], item[axes.len()], axes, reduction);
    match_float!(
        x.dtype(),
        T in [f32, f64] => forward::<T>(plan()?, x, dims),
        else Ok(reference(x, axes, reduction)?)
    )
}

fn forward<T: Element + Pooling>(plan: Plan, x: &Tensor, dims: Vec<usize>) -> Result<Tensor> {
    let values = x.detach().contiguous()?;
    let (y, taps) = T::pool(&plan, &elements::<T>(&values)?, x.track_op())?;
    let operation = Pooled { plan, taps, dims: x.dims().to_vec(), element: PhantomData::<T> };
    attach(operation, &[x], OwnedStorage::new(y, dims)?)
}

struct Pooled<T> {
    plan: Plan,
    taps: Taps,
    /// The input's.
    dims: Vec<usize>,
    element: PhantomData<T>,
}

impl<T: Element + Pooling> Operation for Pooled<T> {
    fn name(&self) -> &'static str {
        "pooling"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let dx = T::pool_backward(&self.plan, &elements::<T>(&dy)?, &self.taps)?;
        Ok(vec![Some(OwnedStorage::new(dx, self.dims.clone())?.into_tensor())])
    }
}

fn on_device(windows: Windows, x: &Tensor, reduction: Reduction, dims: Vec<usize>) -> Result<Tensor> {
    let (y, taps) = device::pool(&windows, &x.detach().contiguous()?, reduction)?;
    let operation = PooledOnDevice { windows, taps, reduction, dims: x.dims().to_vec() };
    attach(operation, &[x], y.reshape(dims)?)
}

struct PooledOnDevice {
    windows: Windows,
    taps: Tensor,
    reduction: Reduction,
    /// The input's.
    dims: Vec<usize>,
}

impl Operation for PooledOnDevice {
    fn name(&self) -> &'static str {
        "pooling"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let dx = device::pool_backward(&self.windows, &dy, &self.taps, self.reduction)?;
        Ok(vec![Some(dx.reshape(self.dims.as_slice())?.into_tensor())])
    }
}

fn reference(x: &Tensor, axes: &[Axis], reduction: Reduction) -> candle_core::Result<Tensor> {
    let first = x.rank() - 1 - axes.len();
    let counts_padding = match reduction {
        Reduction::Average { counts_padding } => counts_padding,
        Reduction::Max => return best(x, axes, reduction.identity(), |best, x| best.ge(x)),
        Reduction::Min => return best(x, axes, reduction.identity(), |best, x| best.le(x)),
    };
    let mut reduced = x.clone();
    for (dim, axis) in (first..).zip(axes) {
        let n = reduced.dims()[dim];
        reduced = fold_windows(&reduced, dim, axis, 0., |a, b| a + b)?;
        if counts_padding {
            reduced = (reduced / axis.size as f64)?;
        } else {
            let counts = (0..reduced.dims()[dim]).map(|position| axis.elements(n, position).len() as f64);
            let mut dims = vec![1; x.rank()];
            dims[dim] = counts.len();
            let counts = Tensor::from_vec(counts.collect(), dims, &Device::Cpu)?.to_dtype(x.dtype())?;
            reduced = reduced.broadcast_div(&constant(&counts, x.device())?)?;
        }
    }
    Ok(reduced)
}

/// The best element of each window, or `identity` of a window of padding. From the first tap to the last, an element
/// `stays` or the next is selected; NaN stays in the value, but not in the selection, which has the gradient.
fn best(
    x: &Tensor,
    axes: &[Axis],
    identity: f64,
    stays: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let first = x.rank() - 1 - axes.len();
    let spatial = &x.dims()[first..first + axes.len()];
    if x.elem_count() == 0 {
        // Windows of padding.
        let fold =
            |x: Tensor, (dim, axis)| fold_windows(&x, dim, axis, identity, |padding, _| Ok(padding.clone()));
        return (first..).zip(axes).try_fold(x.clone(), fold);
    }
    // What the window reads along each axis at one tap, and whether that is an element.
    let read = |tap: usize| -> candle_core::Result<(Tensor, Tensor)> {
        let mut rest = tap;
        let (mut values, mut inside) = (x.clone(), Tensor::ones(1, DType::U8, x.device())?);
        for ((dim, axis), &n) in (first..first + axes.len()).zip(axes).zip(spatial).rev() {
            let at = rest % axis.size;
            rest /= axis.size;
            let source = |position| axis.source(n, position, at);
            let positions = axis.positions(n);
            let index: Vec<u32> =
                (0..positions).map(|position| source(position).unwrap_or(0) as u32).collect();
            let covers = (0..positions).map(|position| u8::from(source(position).is_some()));
            let mut dims = vec![1; x.rank()];
            dims[dim] = positions;
            let covers = constant(&Tensor::from_vec(covers.collect(), dims, &Device::Cpu)?, x.device())?;
            let index = constant(&Tensor::new(index, &Device::Cpu)?, x.device())?;
            values = values.contiguous()?.index_select(&index, dim)?;
            inside = inside.broadcast_mul(&covers)?;
        }
        Ok((values.clone(), inside.broadcast_as(values.shape())?.contiguous()?))
    };
    let (mut selected, mut has_any) = read(0)?;
    let mut has_nan = (selected.ne(&selected)? * &has_any)?;
    for tap in 1..axes.iter().map(|axis| axis.size).product() {
        let (next, inside) = read(tap)?;
        let stays = (stays(&selected, &next)? * &has_any)?;
        let passes = stays.eq(&stays.zeros_like()?)?;
        selected = (passes * &inside)?.where_cond(&next, &selected)?;
        has_any = has_any.maximum(&inside)?;
        has_nan = has_nan.maximum(&(next.ne(&next)? * &inside)?)?;
    }
    let zeros = selected.zeros_like()?;
    let selected = has_any.where_cond(&selected, &(&zeros + identity)?)?;
    // A constant that is 0 or NaN: the gradient of the selected element stays.
    selected + has_nan.where_cond(&(&zeros + f64::NAN)?, &zeros)?
}

/// The reduction of `x` along `dim` by any function of two tensors with this identity element.
pub(crate) fn fold_windows(
    x: &Tensor,
    dim: usize,
    axis: &Axis,
    identity: f64,
    f: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let n = x.dims()[dim];
    let mut edge = x.dims().to_vec();
    edge[dim] = 1;
    // Index `n` is padding.
    let edge = (Tensor::zeros(edge, x.dtype(), x.device())? + identity)?;
    let padded = Tensor::cat(&[x, &edge], dim)?.contiguous()?;
    let read = |tap: usize| -> candle_core::Result<Tensor> {
        let at = |position: usize| (position * axis.stride + tap).checked_sub(axis.padding.0);
        let index = (0..axis.positions(n)).map(|position| at(position).map_or(n, |at| at.min(n)) as u32);
        let index = Tensor::new(index.collect::<Vec<_>>(), &Device::Cpu)?;
        padded.index_select(&constant(&index, x.device())?, dim)
    };
    // The taps that read an element anywhere; the others read the identity everywhere.
    let reach = axis.positions(n).saturating_sub(1).saturating_mul(axis.stride);
    let first = axis.padding.0.saturating_sub(reach).min(axis.size - 1);
    let end = axis.size.min(axis.padding.0.saturating_add(n));
    (first + 1..end).try_fold(read(first)?, |folded, tap| f(&folded, &read(tap)?))
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;
    use crate::ops::testing::value_and_gradients;

    const REDUCTIONS: [Reduction; 4] = [
        Reduction::Average { counts_padding: true },
        Reduction::Average { counts_padding: false },
        Reduction::Max,
        Reduction::Min,
    ];

    fn assert_equal(x: &Tensor, axes: &[Axis], reduction: Reduction, tolerance: f64) -> Result<()> {
        let pool = |[x]: [&Tensor; 1]| reduce_windows(x, axes, reduction);
        let found = value_and_gradients([x], pool)?;
        let wanted = with_reference(|| value_and_gradients([x], pool))?;
        let untracked = pool([x])?;
        let untracked: Vec<f64> = untracked.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found[0]), bits(&untracked));
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(wanted) {
                let close = (found - wanted).abs() <= tolerance * wanted.abs().max(1.);
                let same = found == wanted || found.is_nan() && wanted.is_nan();
                assert!(close || same, "{:?} {axes:?} {reduction:?}: {found} {wanted}", x.dims());
            }
        }
        Ok(())
    }

    /// Windows of every kind over one to three axes, drawn with a fixed key; some cover padding alone, some
    /// values are equal.
    #[test]
    fn agree_with_the_reference_composition() -> Result<()> {
        let draw = |case: u32, slot: u32, choices: &[usize]| {
            let bits = Key::from(7).fold_in(case).fold_in(slot).words()[0] as usize;
            choices[bits % choices.len()]
        };
        for case in 0..120 {
            let rank = 1 + case % 3;
            let axis = |d: u32| Axis {
                size: draw(case, 10 * d, &[1, 2, 3, 4]),
                stride: draw(case, 10 * d + 1, &[1, 2, 3, 5]),
                padding: (draw(case, 10 * d + 2, &[0, 0, 1, 3]), draw(case, 10 * d + 3, &[0, 0, 1, 3])),
                window_dilation: 1,
                input_dilation: 1,
            };
            let axes: Vec<_> = (0..rank).map(axis).collect();
            let spatial = (0..rank).map(|d| draw(case, 10 * d + 6, &[1, 2, 3, 5, 8]));
            let mut dims: Vec<_> = spatial.chain([draw(case, 100, &[1, 3, 17])]).collect();
            dims.splice(0..0, [&[][..], &[3], &[2, 2]][case as usize % 3].iter().copied());
            for dtype in [DType::F32, DType::F64] {
                let x = Key::from(case).randint(dims.clone(), -9, 9, DType::I64)?.to_dtype(dtype)?;
                for reduction in REDUCTIONS {
                    assert_equal(&x, &axes, reduction, 1e-5)?;
                }
            }
        }
        Ok(())
    }

    /// Large enough for all cores, with taps that fit into a byte and taps that do not.
    #[test]
    fn on_all_cores() -> Result<()> {
        let axis =
            |size, stride| Axis { size, stride, padding: (1, 2), window_dilation: 1, input_dilation: 1 };
        let x = Key::from(0).normal((7, 40, 41, 9), DType::F32)?;
        for axes in [[axis(3, 2), axis(3, 2)], [axis(2, 2), axis(2, 3)], [axis(17, 16), axis(16, 16)]] {
            for reduction in REDUCTIONS {
                assert_equal(&x, &axes, reduction, 1e-4)?;
            }
        }
        Ok(())
    }

    #[test]
    fn nan_and_infinities() -> Result<()> {
        let axis = Axis { size: 2, stride: 2, padding: (0, 1), window_dilation: 1, input_dilation: 1 };
        for (reduction, beyond) in [(Reduction::Max, f32::INFINITY), (Reduction::Min, f32::NEG_INFINITY)] {
            let x = Var::new(&[f32::NAN, 1., 2., f32::NAN, -beyond, -beyond, beyond], &Device::Cpu)?;
            let check = || -> Result<()> {
                let y = reduce_windows(&x.unsqueeze(1)?, &[axis], reduction)?.flatten_all()?;
                let values = y.to_vec1::<f32>()?;
                assert!(values[0].is_nan() && values[1].is_nan(), "{values:?}");
                assert_eq!(values[2..], [-beyond, beyond]);
                let dx = y.sum_all()?.backward()?.get(&x).map(Tensor::to_vec1::<f32>).transpose()?;
                // By JAX: of 1 after NaN, and of NaN after 2.
                assert_eq!(dx, Some(vec![0., 1., 0., 1., 1., 0., 1.]));
                Ok(())
            };
            check()?;
            with_reference(check)?;
        }
        // Over two axes, by JAX 0.10.2 with the cotangents 1 to 4.
        let nan = f32::NAN;
        let x = Tensor::new(&[[1f32, nan, 3.], [2., 2., 2.], [nan, 5., 5.]], &Device::Cpu)?.unsqueeze(2)?;
        let x = Var::from_tensor(&x)?;
        let square = Axis { stride: 1, padding: (0, 0), ..axis };
        let check = || -> Result<()> {
            let y = reduce_windows(&x, &[square, square], Reduction::Max)?.flatten_all()?;
            assert!(
                y.to_vec1::<f32>()?.iter().zip([nan, nan, nan, 5.]).all(|(y, x)| y.is_nan() == x.is_nan())
            );
            // Each as often as its cotangent says.
            let repeated = [0u32, 1, 1, 2, 2, 2, 3, 3, 3, 3];
            let y = y.index_select(&Tensor::new(&repeated, &Device::Cpu)?, 0)?;
            let dx = y.sum_all()?.backward()?;
            let dx = dx.get(&x).map(|dx| dx.flatten_all()?.to_vec1::<f32>()).transpose()?;
            assert_eq!(dx, Some(vec![0., 0., 2., 1., 0., 0., 0., 7., 0.]));
            Ok(())
        };
        check()?;
        with_reference(check)
    }
}
