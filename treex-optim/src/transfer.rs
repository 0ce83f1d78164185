//! Rust numbers from tensors on a device, and tensors there from numbers. Not every device has f64, so casts to f64
//! run on the CPU.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use treex_core::Result;
use treex_core::transfers::transfer;
use treex_kernels::float::Float;

/// What to write where a step may not transfer.
pub(crate) const ON_HOST: &str = "take it out of the step: it computes with numbers on the CPU";

/// A tensor on the CPU.
#[track_caller]
pub(crate) fn to_host(x: &Tensor) -> Result<Tensor> {
    transfer(&x.detach(), &Device::Cpu, ON_HOST)
}

/// All elements in order, in f64.
#[track_caller]
pub(crate) fn to_vec_f64(x: &Tensor) -> Result<Vec<f64>> {
    Ok(to_host(&x.flatten_all()?)?.to_dtype(DType::F64)?.to_vec1()?)
}

/// The one element of a scalar, in f64.
#[track_caller]
pub(crate) fn to_f64(x: &Tensor) -> Result<f64> {
    Ok(to_host(x)?.to_dtype(DType::F64)?.to_scalar()?)
}

/// A tensor on the device of another one, which is uploaded.
#[track_caller]
pub(crate) fn to_device_of(x: &Tensor, other: &Tensor) -> Result<Tensor> {
    transfer(x, other.device(), ON_HOST)
}

/// A scalar of this type on a device. Nothing is uploaded: the value is an argument of a kernel.
pub(crate) fn scalar_on(value: f64, dtype: DType, device: &Device) -> Result<Tensor> {
    match device {
        Device::Cpu => Ok(Tensor::new(value, &Device::Cpu)?.to_dtype(dtype)?),
        _ => Ok(Tensor::zeros((), dtype, device)?.affine(0., value)?),
    }
}

/// A constant tensor with the shape, element type and device of another one.
pub(crate) fn constant_like(value: f64, like: &Tensor) -> Result<Tensor> {
    Ok(scalar_on(value, like.dtype(), like.device())?.broadcast_as(like.shape())?)
}

/// In another element type, each element rounded once. Candle's cast from f64 to a type of half precision looks at
/// the upper 32 bits alone on the CPU, so just above the middle of two numbers it rounds down there.
pub(crate) fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() != DType::F64 || !matches!(dtype, DType::BF16 | DType::F16) || !x.device().is_cpu() {
        return Ok(x.to_dtype(dtype)?);
    }
    let odd = to_vec_f64(x)?.into_iter().map(round_to_odd);
    let narrow = match dtype {
        DType::BF16 => Tensor::from_iter(odd.map(<bf16 as Float>::narrow), &Device::Cpu)?,
        _ => Tensor::from_iter(odd.map(<f16 as Float>::narrow), &Device::Cpu)?,
    };
    Ok(narrow.reshape(x.shape())?)
}

/// `x` in f32, so that rounding the result to a narrower type is rounding `x` once: of the two neighbours of an `x`
/// between them, the one whose last bit is set, which is never in the middle of two narrower numbers.
///
/// Boldo and Melquiond, [When double rounding is odd](https://inria.hal.science/inria-00070603), 2005.
#[inline(always)]
pub(crate) fn round_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let is_exact = f64::from(nearest) == x || nearest.is_nan();
    let bits = nearest.to_bits();
    if is_exact || bits % 2 == 1 {
        return nearest;
    }
    let is_above = f64::from(nearest).abs() > x.abs();
    f32::from_bits(if is_above { bits - 1 } else { bits + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between 1 and its successor in each type, in the middle, and beside it by less than f32 sees.
    #[test]
    fn f64_is_rounded_once() {
        for (dtype, spacing) in [(DType::BF16, 2f64.powi(-7)), (DType::F16, 2f64.powi(-10))] {
            let (middle, little) = (1. + spacing / 2., 2f64.powi(-50));
            let cases = [
                (middle, 1.),
                (middle + little, 1. + spacing),
                (middle - little, 1.),
                (-middle - little, -1. - spacing),
                (middle + spacing, 1. + 2. * spacing),
                (middle + spacing - little, 1. + spacing),
                (f64::MAX, f64::INFINITY),
                (f64::MIN_POSITIVE, 0.),
            ];
            for (x, expected) in cases {
                let found = cast(&Tensor::new(&[x], &Device::Cpu).unwrap(), dtype).unwrap();
                assert_eq!(to_vec_f64(&found).unwrap(), [expected], "{x:e} in {dtype:?}");
            }
            let nan = cast(&Tensor::new(&[f64::NAN], &Device::Cpu).unwrap(), dtype).unwrap();
            assert!(to_vec_f64(&nan).unwrap()[0].is_nan());
        }
    }
}
