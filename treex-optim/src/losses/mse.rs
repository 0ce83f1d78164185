//! The mean squared error as one operation: one read of both tensors forward, and one backward.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use candle_core::{DType, Tensor};
use treex_core::Result;
use treex_core::autograd::Element;
use treex_core::autograd::{BackwardContext, Operation, OwnedStorage, attach, elements, is_reference};
use treex_kernels::fill::{Fill, collect};
use treex_kernels::isa::{Kernel, dispatch};
use treex_kernels::math::Real;
use treex_kernels::reduce::{sums2, total2};

use super::aligned;

/// The mean of [`squared_error`](super::squared_error) over everything, a scalar.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let predictions = Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// let targets = Tensor::new(&[1f32, 2., 6.], &Device::Cpu)?;
/// assert_eq!(treex_optim::mse(&predictions, &targets)?.to_scalar::<f32>()?, 3.);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// As [`squared_error`](super::squared_error).
pub fn mse(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (predictions, targets) = aligned("mse", ("predictions", predictions), ("targets", targets))?;
    match predictions.dtype() {
        _ if is_reference() || !predictions.device().is_cpu() => {
            Ok((predictions - targets)?.sqr()?.mean_all()?)
        }
        DType::F64 => Mse::<f64>::of(&predictions, &targets),
        _ => Mse::<f32>::of(&predictions, &targets),
    }
}

struct Mse<T> {
    predictions: Tensor,
    targets: Tensor,
    element: PhantomData<fn() -> T>,
}

impl<T: Element<Wide = T> + Real> Mse<T> {
    fn of(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (p, t) = (predictions.detach().contiguous()?, targets.detach().contiguous()?);
        let sum =
            total2(&elements::<T>(&p)?, &elements::<T>(&t)?, |p, t| Real::to_f64(dispatch(Squares { p, t })));
        let output = OwnedStorage::new(vec![T::of(sum / p.elem_count() as f64)], ())?;
        attach(Self { predictions: p, targets: t, element: PhantomData }, &[predictions, targets], output)
    }
}

impl<T: Element<Wide = T> + Real> Operation for Mse<T> {
    fn name(&self) -> &'static str {
        "mse"
    }

    fn backward(&self, cx: &BackwardContext) -> Result<Vec<Option<Tensor>>> {
        let (p, t) = (elements::<T>(&self.predictions)?, elements::<T>(&self.targets)?);
        let cotangent = elements::<T>(cx.cotangent()?)?.first().map_or(0., |&x| Real::to_f64(x));
        let gradient = |index: usize, sign: f64| -> Result<Option<Tensor>> {
            if !cx.wanted(index) {
                return Ok(None);
            }
            let factor = T::of(sign * 2. * cotangent / p.len() as f64);
            let gradient = collect(p.len(), &Errors { p: &p, t: &t, factor })?;
            Ok(Some(OwnedStorage::new(gradient, self.predictions.shape())?.into_tensor()))
        };
        Ok(vec![gradient(0, 1.)?, gradient(1, -1.)?])
    }
}

struct Squares<'a, T> {
    p: &'a [T],
    t: &'a [T],
}

impl<T: Real> Kernel for Squares<'_, T> {
    type Output = T;

    #[inline(always)]
    fn run(self) -> T {
        let [sum] = sums2(self.p, self.t, |p, t| [(p - t) * (p - t)]);
        sum
    }
}

/// `factor * (p - t)`.
struct Errors<'a, T> {
    p: &'a [T],
    t: &'a [T],
    factor: T,
}

// SAFETY: `p` and `t` have an element for every one of the piece.
unsafe impl<T: Real> Fill<T> for Errors<'_, T> {
    #[inline(always)]
    fn write(&self, first: usize, piece: &mut [MaybeUninit<T>]) {
        let (p, t) = (&self.p[first..][..piece.len()], &self.t[first..][..piece.len()]);
        for ((error, &p), &t) in piece.iter_mut().zip(p).zip(t) {
            error.write((p - t) * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;

    #[test]
    fn agrees_with_the_plain_composition() -> Result<()> {
        for (dtype, tolerance) in
            [(DType::F32, 1e-5), (DType::F64, 1e-12), (DType::BF16, 1e-2), (DType::F16, 1e-3)]
        {
            for dims in [&[][..], &[1], &[5, 7], &[300, 301]] {
                let var = |seed: u64| -> Result<Var> {
                    Ok(Var::from_tensor(&Key::from(seed).normal(dims, DType::F32)?.to_dtype(dtype)?)?)
                };
                let (p, t) = (var(0)?, var(1)?);
                let all = || -> Result<Vec<Vec<f64>>> {
                    // Also a transpose, which is not contiguous.
                    let turn = |x: &Tensor| if x.rank() == 2 { x.t() } else { Ok(x.clone()) };
                    let loss = mse(&turn(&p)?, &turn(&t)?)?;
                    let gradients = (&loss * 3.)?.backward()?;
                    let of = |x: &Var| gradients.get(x).map_or_else(|| x.zeros_like(), |x| Ok(x.clone()));
                    let numbers = |x: &Tensor| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1();
                    Ok([loss.clone(), of(&p)?, of(&t)?]
                        .iter()
                        .map(numbers)
                        .collect::<candle_core::Result<_>>()?)
                };
                let (found, expected) = (all()?, with_reference(all)?);
                for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                    assert!(
                        (found - expected).abs() <= tolerance * expected.abs().max(1e-3),
                        "{dtype:?} {dims:?}: {found} {expected}"
                    );
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_mean_of_nothing_is_not_a_number() -> Result<()> {
        let nothing = Tensor::zeros(0, DType::F32, &Device::Cpu)?;
        assert!(mse(&nothing, &nothing)?.to_scalar::<f32>()?.is_nan());
        Ok(())
    }
}
