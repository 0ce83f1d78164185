//! Poolings as operations on tensors: reductions over windows, all axes at once.
//!
//! The kernels are [`treex_kernels::pooling`]. Candle's backward passes of its own poolings are wrong where
//! windows overlap or do not cover the input, and its maximum's by a factor everywhere; these have their own.

use std::marker::PhantomData;

use candle_core::{Device, Tensor};
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
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
    let is_empty = x.elem_count() == 0 || dims.contains(&0);
    if is_reference() || !x.device().is_cpu() || is_empty || axes.is_empty() {
        return Ok(reference(x, axes, reduction)?);
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

fn reference(x: &Tensor, axes: &[Axis], reduction: Reduction) -> candle_core::Result<Tensor> {
    let first = x.rank() - 1 - axes.len();
    let mut reduced = x.clone();
    // The last axis first, so that the first of equals is the first in row-major order.
    for (dim, axis) in (first..first + axes.len()).zip(axes).rev() {
        let n = reduced.dims()[dim];
        reduced = fold_windows(&reduced, dim, axis, reduction.identity(), |a, b| reduce(reduction, a, b))?;
        match reduction {
            Reduction::Average { counts_padding: true } => reduced = (reduced / axis.size as f64)?,
            Reduction::Average { counts_padding: false } => {
                let counts = (0..reduced.dims()[dim]).map(|position| axis.elements(n, position).len() as f64);
                let mut dims = vec![1; x.rank()];
                dims[dim] = counts.len();
                let counts = Tensor::from_vec(counts.collect(), dims, &Device::Cpu)?;
                reduced = reduced.broadcast_div(&counts.to_dtype(x.dtype())?.to_device(x.device())?)?;
            }
            Reduction::Max | Reduction::Min => {}
        }
    }
    Ok(reduced)
}

/// Two tensors, element by element; the sum for an average.
fn reduce(reduction: Reduction, a: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    let better = match reduction {
        Reduction::Average { .. } => return a + b,
        Reduction::Max => b.gt(a)?,
        Reduction::Min => b.lt(a)?,
    };
    // NaN is taken, and stays.
    (better + b.ne(b)?)?.where_cond(b, a)
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
        padded.index_select(&Tensor::new(index.collect::<Vec<_>>(), x.device())?, dim)
    };
    (1..axis.size).try_fold(read(0)?, |folded, tap| f(&folded, &read(tap)?))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};
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
                assert_eq!(dx.map(|dx| dx[4..].to_vec()), Some(vec![1., 0., 1.]));
                Ok(())
            };
            check()?;
            with_reference(check)?;
        }
        Ok(())
    }
}
