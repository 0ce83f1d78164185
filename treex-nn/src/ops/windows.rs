//! Reductions over windows, one axis after another: what a pooling is made of.
//!
//! A window without gaps is a range of indices, so a reduction along one axis is three loops over
//! `[before, n, after]`, the innermost over neighbours in memory. Along several axes it is one along each, the
//! last first: so the first of equals in a window is the first in row-major order.
//!
//! Candle's backward passes of its own poolings are wrong where windows overlap or do not fill the input, and
//! its maximum's by a factor everywhere; these have their own.

use std::ops::Range;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Layout, Result, Shape, Tensor, WithDType};
use rayon::prelude::*;
use treex_core::compute::is_plain;

use crate::ops::patches::Axis;

/// How what a window sees becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Sum,
    /// The gradient goes to the first of equals.
    Max,
    /// The gradient goes to the first of equals.
    Min,
}

impl Reduction {
    /// What changes nothing.
    fn identity(self) -> f64 {
        match self {
            Self::Sum => 0.,
            Self::Max => f64::NEG_INFINITY,
            Self::Min => f64::INFINITY,
        }
    }

    /// Of two tensors, element by element.
    fn of(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let better = match self {
            Self::Sum => return a + b,
            Self::Max => b.gt(a)?,
            Self::Min => b.lt(a)?,
        };
        // What is not a number is taken, and stays.
        (better + b.ne(b)?)?.where_cond(b, a)
    }
}

/// What the window at `position` sees of `n` elements. It has neither gaps nor dilation.
pub(crate) fn window(axis: &Axis, n: usize, position: usize) -> Range<usize> {
    let index = |at: usize| at.saturating_sub(axis.zeros.0).min(n);
    index(position * axis.stride)..index(position * axis.stride + axis.size)
}

/// `x`, `[.., n, ..]`, as `[.., positions, ..]` along `dim`; in `F32` and `F64`.
pub(crate) fn reduce_windows(x: &Tensor, dim: usize, axis: &Axis, reduction: Reduction) -> Result<Tensor> {
    let has_kernel = x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64);
    if is_plain() || !has_kernel {
        return fold_windows(x, dim, axis, reduction.identity(), |a, b| reduction.of(a, b));
    }
    let (before, n, after) = (&x.dims()[..dim], x.dims()[dim], &x.dims()[dim + 1..]);
    let windows = Windows {
        reduction,
        ranges: (0..axis.positions(n)).map(|position| window(axis, n, position)).collect(),
        item: n * after.iter().product::<usize>(),
        after: after.iter().product(),
        output: [before, &[axis.positions(n)], after].concat().into(),
    };
    x.contiguous()?.apply_op1(windows)
}

/// The same by any function of two tensors, for which `identity` changes nothing.
pub(crate) fn fold_windows(
    x: &Tensor,
    dim: usize,
    axis: &Axis,
    identity: f64,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let n = x.dims()[dim];
    let mut edge = x.dims().to_vec();
    edge[dim] = 1;
    // Index `n` is beyond the edge.
    let edge = (Tensor::zeros(edge, x.dtype(), x.device())? + identity)?;
    let padded = Tensor::cat(&[x, &edge], dim)?.contiguous()?;
    let seen = |place: usize| -> Result<Tensor> {
        let at = |position: usize| (position * axis.stride + place).checked_sub(axis.zeros.0);
        let index = (0..axis.positions(n)).map(|position| at(position).map_or(n, |at| at.min(n)) as u32);
        padded.index_select(&Tensor::new(index.collect::<Vec<_>>(), x.device())?, dim)
    };
    (1..axis.size).try_fold(seen(0)?, |folded, place| f(&folded, &seen(place)?))
}

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 16;

/// A reduction along one axis.
struct Windows {
    reduction: Reduction,
    /// What each window sees.
    ranges: Vec<Range<usize>>,
    /// Elements of `[n, after]`, and of `after`.
    item: usize,
    after: usize,
    output: Shape,
}

impl Windows {
    fn reduce<T: WithDType>(&self, x: &[T]) -> Vec<T> {
        match self.reduction {
            Reduction::Sum => self.combine(x, |sum, x| *sum += x),
            Reduction::Max => self.combine(x, |max, x| replace(max, x, x > *max)),
            Reduction::Min => self.combine(x, |min, x| replace(min, x, x < *min)),
        }
    }

    fn combine<T: WithDType>(&self, x: &[T], combine: impl Fn(&mut T, T) + Sync) -> Vec<T> {
        let mut reduced = vec![T::from_f64(self.reduction.identity()); self.output.elem_count()];
        each_item(&mut reduced, self.ranges.len() * self.after, |item, reduced| {
            let x = &x[item * self.item..][..self.item];
            for (reduced, range) in reduced.chunks_mut(self.after).zip(&self.ranges) {
                for x in x[range.start * self.after..range.end * self.after].chunks(self.after) {
                    reduced.iter_mut().zip(x).for_each(|(reduced, x)| combine(reduced, *x));
                }
            }
        });
        reduced
    }

    /// What comes back to `x`, which was reduced to `y`, from the gradient of `y`.
    fn back<T: WithDType>(&self, x: &[T], y: &[T], grad: &[T]) -> Vec<T> {
        match self.reduction {
            Reduction::Sum => self.give(x, y, grad, |_, _, left| (left, left)),
            // Where `y` is not a number, the first will do.
            Reduction::Max | Reduction::Min => {
                self.give(
                    x,
                    y,
                    grad,
                    |x, y, left| {
                        if x == y || is_nan(y) { (left, T::zero()) } else { (T::zero(), left) }
                    },
                )
            }
        }
    }

    /// Shows `split` each `x` of a window, its `y` and what is left of its gradient, in order; it says how much
    /// of that `x` takes, and what is left for the next.
    fn give<T: WithDType>(
        &self,
        x: &[T],
        y: &[T],
        grad: &[T],
        split: impl Fn(T, T, T) -> (T, T) + Sync,
    ) -> Vec<T> {
        let mut given = vec![T::zero(); x.len()];
        each_item(&mut given, self.item, |item, given| {
            let mut left = vec![T::zero(); self.after];
            for (position, range) in self.ranges.iter().enumerate() {
                let row = (item * self.ranges.len() + position) * self.after;
                let y = &y[row..row + self.after];
                left.copy_from_slice(&grad[row..row + self.after]);
                for index in range.clone() {
                    let x = &x[item * self.item + index * self.after..][..self.after];
                    let given = &mut given[index * self.after..][..self.after];
                    for (((given, x), y), left) in given.iter_mut().zip(x).zip(y).zip(&mut left) {
                        let taken;
                        (taken, *left) = split(*x, *y, *left);
                        *given += taken;
                    }
                }
            }
        });
        given
    }
}

/// Shows `f` each run of `size` elements with its number, on all cores where it pays.
fn each_item<T: Send>(all: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    match all.len() {
        0 => {}
        len if len < PARALLEL => all.chunks_mut(size).enumerate().for_each(|(item, run)| f(item, run)),
        _ => all.par_chunks_mut(size).enumerate().for_each(|(item, run)| f(item, run)),
    }
}

/// What is not a number is taken, and stays.
fn replace<T: WithDType>(best: &mut T, x: T, is_better: bool) {
    if is_better || is_nan(x) {
        *best = x;
    }
}

#[expect(clippy::eq_op, reason = "the comparison that is one instruction, of vectors too")]
fn is_nan<T: WithDType>(x: T) -> bool {
    x != x
}

/// The elements of a contiguous tensor.
fn elements<'s, T: WithDType>(storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [T]> {
    Ok(&storage.as_slice()?[layout.start_offset()..layout.start_offset() + layout.shape().elem_count()])
}

impl CustomOp1 for Windows {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let reduced = match x.dtype() {
            DType::F64 => CpuStorage::F64(self.reduce(elements(x, layout)?)),
            _ => CpuStorage::F32(self.reduce(elements(x, layout)?)),
        };
        Ok((reduced, self.output.clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op3_no_bwd(y, &grad.contiguous()?, &Back(self))?))
    }
}

/// The backward pass, of an input, its reduction and the gradient of that.
struct Back<'w>(&'w Windows);

impl CustomOp3 for Back<'_> {
    fn name(&self) -> &'static str {
        "windows-back"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn back<T: WithDType>(
            windows: &Windows,
            [x, y, grad]: [(&CpuStorage, &Layout); 3],
        ) -> Result<Vec<T>> {
            Ok(windows.back(elements(x.0, x.1)?, elements(y.0, y.1)?, elements(grad.0, grad.1)?))
        }
        let all = [(x, x_layout), (y, y_layout), (grad, grad_layout)];
        let given = match x.dtype() {
            DType::F64 => CpuStorage::F64(back(self.0, all)?),
            _ => CpuStorage::F32(back(self.0, all)?),
        };
        Ok((given, x_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use treex_core::{Key, compute::with_plain};

    use super::*;

    /// Large enough for all cores.
    #[test]
    fn agree_with_the_plain_composition() -> Result<()> {
        let axis = Axis { size: 3, stride: 2, zeros: (1, 2), window_dilation: 1, input_dilation: 1 };
        let x = Var::from_tensor(&Key::from(0).normal((7, 100, 101), DType::F32).unwrap())?;
        for reduction in [Reduction::Sum, Reduction::Max, Reduction::Min] {
            for dim in [0, 1, 2] {
                let both = || -> Result<Vec<Vec<f32>>> {
                    let y = reduce_windows(&x, dim, &axis, reduction)?;
                    let grads = y.sqr()?.sum_all()?.backward()?;
                    let dx = grads.get(&x).ok_or(candle_core::Error::msg("no gradient"))?;
                    Ok(vec![y.flatten_all()?.to_vec1()?, dx.flatten_all()?.to_vec1()?])
                };
                let (found, wanted) = (both()?, with_plain(both)?);
                for (found, wanted) in found.iter().flatten().zip(wanted.iter().flatten()) {
                    assert!((found - wanted).abs() < 1e-4, "{reduction:?} {dim}: {found} {wanted}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_not_a_number() -> Result<()> {
        let axis = Axis { size: 2, stride: 2, zeros: (0, 1), window_dilation: 1, input_dilation: 1 };
        for (reduction, beyond) in [(Reduction::Max, f32::INFINITY), (Reduction::Min, f32::NEG_INFINITY)] {
            let x = Var::new(&[f32::NAN, 1., 2., f32::NAN, -beyond, -beyond, beyond], &Device::Cpu)?;
            let check = || -> Result<()> {
                let y = reduce_windows(&x, 0, &axis, reduction)?;
                let values = y.to_vec1::<f32>()?;
                assert!(values[0].is_nan() && values[1].is_nan(), "{values:?}");
                assert_eq!(values[2..], [-beyond, beyond]);
                let dx = y.sum_all()?.backward()?.get(&x).map(Tensor::to_vec1::<f32>).transpose()?;
                assert_eq!(dx.map(|dx| dx[4..].to_vec()), Some(vec![1., 0., 1.]));
                Ok(())
            };
            check()?;
            with_plain(check)?;
        }
        Ok(())
    }
}
