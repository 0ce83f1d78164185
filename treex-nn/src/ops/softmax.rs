//! Softmax along the last axes: each row is read once from memory, forward and backward.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use candle_core::{DType, Tensor};
use treex_core::Result;
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_kernels::fill::filled;
use treex_kernels::float::{bf16, f16};
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::log_sum_exp::LogSumExp;
use treex_kernels::math::Real;
use treex_kernels::parallel::pieces;
use treex_kernels::reduce::{largest, sums, sums2};

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 14;

/// Elements of a piece.
const PIECE: usize = 1 << 14;

/// `softmax(x)` over `dims`, or its logarithm, where there is a kernel for it: along the last axes, on the CPU.
/// Half precision is computed in `f32` and rounded once.
///
/// The plain composition is that of [`crate::softmax`] and [`crate::log_softmax`].
pub(crate) fn softmax(x: &Tensor, dims: &[usize], is_log: bool) -> Result<Option<Tensor>> {
    let first = x.rank() - dims.len().min(x.rank());
    let is_last = !dims.is_empty() && (first..x.rank()).all(|dim| dims.contains(&dim));
    if is_reference() || !is_last || !x.device().is_cpu() || x.elem_count() == 0 {
        return Ok(None);
    }
    let row = x.dims()[first..].iter().product();
    Ok(Some(match x.dtype() {
        DType::BF16 => run::<bf16>(x, row, is_log)?,
        DType::F16 => run::<f16>(x, row, is_log)?,
        DType::F32 => run::<f32>(x, row, is_log)?,
        DType::F64 => run::<f64>(x, row, is_log)?,
        _ => return Ok(None),
    }))
}

fn run<T: Element>(x: &Tensor, row: usize, is_log: bool) -> Result<Tensor> {
    let kept = x.detach().contiguous()?;
    let elements = elements::<T>(&kept)?;
    let y = map(elements.len(), row, |first, y| {
        let x = &elements[first..first + y.len()];
        if is_log {
            dispatch(LogSoftmax { x, row, y });
        } else {
            dispatch(Softmax { x, powers: &mut vec![T::Wide::of(0.); row], y });
        }
    })?;
    let y = OwnedStorage::new(y, x.shape())?;
    if is_log {
        // Rounded logarithms have few digits: backward begins with `x`.
        attach(OfLogSoftmax::<T> { x: kept.clone(), row, _type: PhantomData }, &[x], y)
    } else {
        attach(OfSoftmax::<T> { row, _type: PhantomData }, &[x], y)
    }
}

/// A new buffer, of which `kernel` writes all rows of a piece; it gets the place of the first element.
fn map<T: Send>(
    len: usize,
    row: usize,
    kernel: impl Fn(usize, &mut [MaybeUninit<T>]) + Sync,
) -> treex_kernels::Result<Vec<T>> {
    let together = (PIECE / row).max(1) * row;
    // SAFETY: the kernels write each row of each piece, and pieces are whole rows.
    unsafe { filled(len, |y| pieces(y, together, len >= PARALLEL, |index, y| kernel(index * together, y))) }
}

struct Softmax<'a, T: Element> {
    x: &'a [T],
    /// A row of memory.
    powers: &'a mut [T::Wide],
    y: &'a mut [MaybeUninit<T>],
}

impl<T: Element> Kernel for Softmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (row, powers) = (self.powers.len(), self.powers);
        for (x, y) in self.x.chunks_exact(row).zip(self.y.chunks_exact_mut(row)) {
            let largest = largest(x, T::widen);
            for (power, &x) in powers.iter_mut().zip(x) {
                *power = (x.widen() - largest).exp();
            }
            let [sum] = sums(powers, |power| [power]);
            for (y, &power) in y.iter_mut().zip(&*powers) {
                y.write(T::narrow(power / sum));
            }
        }
    }
}

struct LogSoftmax<'a, T: Element> {
    x: &'a [T],
    row: usize,
    y: &'a mut [MaybeUninit<T>],
}

impl<T: Element> Kernel for LogSoftmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (x, y) in self.x.chunks_exact(self.row).zip(self.y.chunks_exact_mut(self.row)) {
            let normalizer = LogSumExp::of(x);
            for (y, &x) in y.iter_mut().zip(x) {
                y.write(T::narrow(normalizer.log_softmax(x.widen())));
            }
        }
    }
}

struct OfSoftmax<T> {
    row: usize,
    _type: PhantomData<T>,
}

impl<T: Element> Operation for OfSoftmax<T> {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn saves_outputs(&self) -> bool {
        true
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let y = cx.output()?;
        let (elements, gradients) = (elements::<T>(y)?, elements::<T>(&dy)?);
        let dx = map(elements.len(), self.row, |first, dx| {
            let range = first..first + dx.len();
            dispatch(SoftmaxGradient {
                y: &elements[range.clone()],
                dy: &gradients[range],
                row: self.row,
                dx,
            });
        })?;
        Ok(vec![Some(OwnedStorage::new(dx, y.shape())?.into_tensor())])
    }
}

/// `y * (dy - sum(y * dy))`.
struct SoftmaxGradient<'a, T: Element> {
    y: &'a [T],
    dy: &'a [T],
    row: usize,
    dx: &'a mut [MaybeUninit<T>],
}

impl<T: Element> Kernel for SoftmaxGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.y.chunks_exact(self.row).zip(self.dy.chunks_exact(self.row));
        for ((y, dy), dx) in rows.zip(self.dx.chunks_exact_mut(self.row)) {
            let [sum] = sums2(y, dy, |y, dy| [y.widen() * dy.widen()]);
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                dx.write(T::narrow(y.widen() * (dy.widen() - sum)));
            }
        }
    }
}

struct OfLogSoftmax<T> {
    x: Tensor,
    row: usize,
    _type: PhantomData<T>,
}

impl<T: Element> Operation for OfLogSoftmax<T> {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let dy = cx.cotangent()?.contiguous()?;
        let (elements, gradients) = (elements::<T>(&self.x)?, elements::<T>(&dy)?);
        let dx = map(elements.len(), self.row, |first, dx| {
            let range = first..first + dx.len();
            let (x, dy) = (&elements[range.clone()], &gradients[range]);
            dispatch(LogSoftmaxGradient { x, dy, row: self.row, dx });
        })?;
        Ok(vec![Some(OwnedStorage::new(dx, self.x.shape())?.into_tensor())])
    }
}

/// `dy - softmax(x) * sum(dy)`.
struct LogSoftmaxGradient<'a, T: Element> {
    x: &'a [T],
    dy: &'a [T],
    row: usize,
    dx: &'a mut [MaybeUninit<T>],
}

impl<T: Element> Kernel for LogSoftmaxGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let rows = self.x.chunks_exact(self.row).zip(self.dy.chunks_exact(self.row));
        for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(self.row)) {
            let normalizer = LogSumExp::of(x);
            let [sum] = sums(dy, |dy| [dy.widen()]);
            for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                let softmax = normalizer.log_softmax(x.widen()).exp();
                dx.write(T::narrow(dy.widen() - softmax * sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;

    type Function = fn(&Tensor) -> Result<Tensor>;

    const FUNCTIONS: [(&str, Function); 2] =
        [("softmax", |x| crate::softmax(x, 1)), ("log_softmax", |x| crate::log_softmax(x, 1))];

    /// The value, and the gradient of its product with fixed numbers, of a view.
    fn value_and_gradient(x: &Tensor, f: Function) -> Result<[Vec<f64>; 2]> {
        let x = Var::from_tensor(x)?;
        let y = f(&x.as_tensor().t()?)?;
        let weights = Key::from(1).normal(y.shape(), DType::F32)?.to_dtype(y.dtype())?;
        let grads = (&y * weights)?.sum_all()?.backward()?;
        let flat = |x: &Tensor| -> Result<_> { Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?) };
        Ok([flat(&y)?, flat(&grads.get(&x).cloned().unwrap_or(x.zeros_like()?))?])
    }

    #[test]
    fn kernels_equal_plain_compositions() -> Result<()> {
        let types = [(DType::F64, 1e-14), (DType::F32, 2e-6), (DType::F16, 2e-3), (DType::BF16, 2e-2)];
        for (dtype, tolerance) in types {
            for dims in [(0, 3), (3, 0), (1, 1), (5, 7), (64, 3), (1000, 33)] {
                let x = (Key::from(0).normal(dims, DType::F32)? * 3.)?.to_dtype(dtype)?;
                for (name, f) in FUNCTIONS {
                    let found = value_and_gradient(&x, f)?;
                    let wanted = with_reference(|| value_and_gradient(&x, f))?;
                    for (found, wanted) in found.iter().zip(&wanted) {
                        let scale = wanted.iter().fold(1f64, |scale, x| scale.max(x.abs()));
                        let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * scale;
                        assert!(found.len() == wanted.len(), "{name} {dims:?}");
                        assert!(found.iter().zip(wanted).all(is_close), "{name} {dtype:?} {dims:?}");
                    }
                }
            }
        }
        Ok(())
    }

    /// Over several axes, in any order; over leading ones there is no kernel.
    #[test]
    fn axes() -> Result<()> {
        let x = Key::from(0).normal((2, 3, 4), DType::F64)?;
        for dims in [vec![1, 2], vec![2, 1], vec![0, 1, 2], vec![0], vec![0, 2]] {
            assert_eq!(softmax(&x, &dims, false)?.is_some(), dims.contains(&2) && dims != [0, 2]);
            let difference =
                (crate::softmax(&x, dims.clone())? - with_reference(|| crate::softmax(&x, dims))?)?;
            assert!(difference.abs()?.max_all()?.to_scalar::<f64>()? < 1e-15);
        }
        Ok(())
    }

    /// Infinite elements, as the plain composition has them.
    #[test]
    fn infinities() -> Result<()> {
        let inf = f32::INFINITY;
        let x =
            Tensor::new(&[[0f32, -inf, 1.], [-inf, -inf, -inf], [inf, 0., 0.]], &candle_core::Device::Cpu)?;
        for (name, f) in FUNCTIONS {
            let (found, plain) = (f(&x)?.to_vec2::<f32>()?, with_reference(|| f(&x))?.to_vec2::<f32>()?);
            for (a, b) in found.iter().flatten().zip(plain.iter().flatten()) {
                assert!(
                    (a - b).abs() < 1e-6 || a == b || a.is_nan() && b.is_nan(),
                    "{name} {found:?} {plain:?}"
                );
            }
        }
        Ok(())
    }
}
