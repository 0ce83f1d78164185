//! The mean squared error as one operation: one read of both tensors forward, and one backward.

use std::marker::PhantomData;

use candle_core::Tensor;
use treex_core::autograd::{
    BackwardContext, Element, Operation, OwnedStorage, attach, elements, is_reference,
};
use treex_core::{Result, match_float};
use treex_kernels::math::Real;
use treex_kernels::squared_error::SquaredError;

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
    let reference = || Ok((&predictions - &targets)?.sqr()?.mean_all()?);
    if is_reference() || !predictions.device().is_cpu() {
        return reference();
    }
    match_float!(
        predictions.dtype(),
        T in [f32, f64] => Mse::<T>::forward(&predictions, &targets),
        else reference()
    )
}

struct Mse<T> {
    predictions: Tensor,
    targets: Tensor,
    element: PhantomData<fn() -> T>,
}

impl<T: Element + SquaredError> Mse<T> {
    fn forward(predictions: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (p, t) = (predictions.detach().contiguous()?, targets.detach().contiguous()?);
        let sum = T::sum_squared_error(&elements(&p)?, &elements(&t)?)?;
        let output = OwnedStorage::new(vec![<T as Real>::of(sum / p.elem_count() as f64)], ())?;
        attach(Self { predictions: p, targets: t, element: PhantomData }, &[predictions, targets], output)
    }
}

impl<T: Element + SquaredError> Operation for Mse<T> {
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
            let factor = <T as Real>::of(sign * 2. * cotangent / p.len() as f64);
            let gradient = T::scaled_error(&p, &t, factor)?;
            Ok(Some(OwnedStorage::new(gradient, self.predictions.shape())?.into_tensor()))
        };
        Ok(vec![gradient(0, 1.)?, gradient(1, -1.)?])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;

    #[test]
    fn agrees_with_the_reference() -> Result<()> {
        for (dtype, tolerance) in
            [(DType::F32, 1e-5), (DType::F64, 1e-12), (DType::BF16, 1e-2), (DType::F16, 1e-3)]
        {
            for dims in [&[][..], &[1], &[5, 7], &[300, 301]] {
                let var = |seed: u64| -> Result<Var> {
                    Ok(Var::from_tensor(&Key::from(seed).normal(dims, DType::F32)?.to_dtype(dtype)?)?)
                };
                let (p, t) = (var(0)?, var(1)?);
                let all = || -> Result<Vec<Vec<f64>>> {
                    // As a transpose too, which is not contiguous.
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
    fn the_mean_of_nothing_is_nan() -> Result<()> {
        let nothing = Tensor::zeros(0, DType::F32, &Device::Cpu)?;
        assert!(mse(&nothing, &nothing)?.to_scalar::<f32>()?.is_nan());
        Ok(())
    }
}
