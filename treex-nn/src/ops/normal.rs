//! The exact GELU, `x Φ(x)`, and its derivative, for [`with_derivative`](super::derivative::with_derivative); `Φ` is the
//! normal distribution and `φ` its density.
//!
//! The reference composition computes them as the kernel does, see [`treex_kernels::exact_gelu`].

use candle_core::{DType, Result, Tensor};
use treex_core::autograd::{Element, OwnedStorage, elements, is_reference, saved};
use treex_core::extrema::{clamp, maximum, minimum};
use treex_core::match_float;
use treex_kernels::exact_gelu::{DENSITY_AT_0, ExactGelu, FAR, MILLS};

use crate::dtype::common_dtype;

/// `x Φ(x)`. Where `Φ(x)` is 0, the product is 0, also for negative infinity.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    elementwise(x, false, |x, cdf, _| maximum(x, -FAR)? * cdf)
}

/// `Φ(x) + x φ(x)`. Where `φ(x)` is 0, the product is 0.
pub(crate) fn gelu_derivative(x: &Tensor) -> Result<Tensor> {
    elementwise(x, true, |x, cdf, pdf| cdf + (clamp(x, -FAR, FAR)? * pdf)?)
}

/// `Φ(x)` and `φ(x)`, by operations that every device has.
fn cdf_and_pdf(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let z = minimum(&x.abs()?, FAR)?;
    // A neighbour whose square is exact, also in `F32`.
    let near = ((&z * 16.)?.round()? / 16.)?;
    let rest = ((&near - &z)? * (&near + &z)?)?;
    let pdf = (((near.sqr()? * -0.5)?.exp()? * (rest * 0.5)?.exp()?)? * DENSITY_AT_0)?;
    let t = ((&z - 5.)? / (&z + 5.)?)?;
    let ratio =
        MILLS.iter().rev().try_fold(z.zeros_like()?, |sum, &coefficient| (sum * &t)? + coefficient)?;
    let tail = (&pdf * (ratio / (z + 1.)?)?)?;
    let cdf = x.lt(0f64)?.where_cond(&tail, &(1. - &tail)?)?;
    Ok((cdf, pdf))
}

/// By the kernel, or as `reference` of `x`, `Φ(x)` and `φ(x)`.
fn elementwise(
    x: &Tensor,
    is_derivative: bool,
    reference: fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let all = saved(x).to_dtype(wide)?;
    let reference = |all: &Tensor| {
        let (cdf, pdf) = cdf_and_pdf(all)?;
        reference(all, &cdf, &pdf)
    };
    let y = if is_reference() || !all.device().is_cpu() {
        reference(&all)?
    } else {
        match_float!(wide, T in [f32, f64] => kernel::<T>(&all.contiguous()?, is_derivative)?, else reference(&all)?)
    };
    y.to_dtype(common_dtype(None, [x]))
}

fn kernel<T: Element + ExactGelu>(x: &Tensor, is_derivative: bool) -> treex_core::Result<Tensor> {
    let y = {
        let x = elements::<T>(x)?;
        if is_derivative { T::exact_gelu_derivative(&x)? } else { T::exact_gelu(&x)? }
    };
    Ok(OwnedStorage::new(y, x.shape())?.into_tensor())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use treex_core::autograd::with_reference;

    use super::*;

    #[test]
    fn at_the_ends() -> Result<()> {
        let x = Tensor::new(&[f32::NEG_INFINITY, -1e30, -0., 1e30, f32::INFINITY, f32::NAN], &Device::Cpu)?;
        let both = || -> Result<(Vec<f32>, Vec<f32>)> {
            Ok((gelu(&x)?.to_vec1()?, gelu_derivative(&x)?.to_vec1()?))
        };
        for (y, dy) in [both()?, with_reference(both)?] {
            assert_eq!(y[..5], [0., 0., 0., 1e30, f32::INFINITY]);
            assert_eq!(dy[..5], [0., 0., 0.5, 1., 1.]);
            assert!(y[5].is_nan() && dy[5].is_nan());
        }
        Ok(())
    }
}
