//! Transfers between Rust numbers and tensors on a device. Not every device has f64, so casts to and from f64
//! run on the CPU.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use treex_core::Result;
use treex_kernels::float::Float;

/// All elements in order, in f64.
pub(crate) fn to_vec_f64(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.detach().flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?)
}

/// The one element of a scalar, in f64.
pub(crate) fn to_f64(x: &Tensor) -> Result<f64> {
    Ok(x.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar()?)
}

/// A constant tensor with the shape, element type and device of another one.
pub(crate) fn constant_like(value: f64, like: &Tensor) -> Result<Tensor> {
    let value = Tensor::new(value, &Device::Cpu)?.to_dtype(like.dtype())?;
    Ok(value.to_device(like.device())?.broadcast_as(like.shape())?)
}

/// In another element type, each element rounded once. Candle's cast from f64 to a type of half precision looks at
/// the upper 32 bits alone, so just above the middle of two numbers it rounds down.
pub(crate) fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() != DType::F64 || !matches!(dtype, DType::BF16 | DType::F16) {
        return Ok(x.to_dtype(dtype)?);
    }
    let odd = to_vec_f64(x)?.into_iter().map(round_to_odd);
    let narrow = match dtype {
        DType::BF16 => Tensor::from_iter(odd.map(<bf16 as Float>::narrow), &Device::Cpu)?,
        _ => Tensor::from_iter(odd.map(<f16 as Float>::narrow), &Device::Cpu)?,
    };
    Ok(narrow.reshape(x.shape())?.to_device(x.device())?)
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
