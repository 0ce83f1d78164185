//! The normal distribution, with all digits in both tails, and what the exact GELU makes of it.
//!
//! `Φ(-x) = φ(x) R(x)` for `x ≥ 0`, where `φ` is the density and `R` Mills' ratio, which has nothing steep about
//! it: `(1 + x) R(x)` is a polynomial in `(x - 5) / (x + 5)` to the last digit of `f64`. In `φ(x)`, digits
//! are lost where `x²` is rounded before the exponential, so that is taken of a neighbour whose square is exact.

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType};
use treex_core::autograd::is_reference;
use treex_kernels::parallel::pieces;

use crate::dtype::common_dtype;

/// `x Φ(x)`, untracked. Where `Φ(x)` is 0, so is the product, also for negative infinity.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    elementwise(x, |x, cdf, _| x.clamp(-FAR, f64::INFINITY) * cdf, |x, cdf, _| x.maximum(-FAR)? * cdf)
}

/// The derivative of [`gelu`], `Φ(x) + x φ(x)`, untracked. Where `φ(x)` is 0, so is the product.
pub(crate) fn gelu_derivative(x: &Tensor) -> Result<Tensor> {
    elementwise(
        x,
        |x, cdf, pdf| cdf + x.clamp(-FAR, FAR) * pdf,
        |x, cdf, pdf| cdf + (x.clamp(-FAR, FAR)? * pdf)?,
    )
}

/// `(1 + x) R(x)` in powers of `(x - 5) / (x + 5)`, the first first: a Chebyshev interpolation in 60 digits,
/// whose relative error is below 4e-16 when evaluated in `f64`; the script of the GELU's tests prints it.
const MILLS: [f64; 24] = [
    1.1568486282918946,
    -0.22948753825211315,
    0.07778159886873769,
    0.0250721793016388,
    -0.0661776007790963,
    0.0615050458401865,
    -0.03802659218584139,
    0.01634823128102938,
    -0.004201290329187307,
    1.9530638370790786e-05,
    0.00045704392357953655,
    -0.0001343742785571135,
    -2.480583845192319e-05,
    2.270961270923768e-05,
    -1.7633239265736746e-07,
    -3.277287633208865e-06,
    3.2054316652589574e-07,
    4.91996233147834e-07,
    -6.588974491108954e-08,
    -7.758520236786343e-08,
    9.092476134019147e-09,
    1.1032071151574336e-08,
    -7.073898575561589e-10,
    -9.564832934712551e-10,
];

/// `1 / sqrt(2 π)`.
const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

/// From here on, both tails are 0 in `f64`.
const FAR: f64 = 40.;

/// As many numbers as are computed side by side: the compiler makes vectors of them.
const LANES: usize = 8;

/// `Φ(x)` and `φ(x)`.
fn cdf_and_pdf(x: [f64; LANES]) -> [(f64, f64); LANES] {
    let t = x.map(|x| (x.abs().clamp(0., FAR) - 5.) / (x.abs().clamp(0., FAR) + 5.));
    let mut ratio = [0.; LANES];
    for coefficient in MILLS.iter().rev() {
        for (ratio, t) in ratio.iter_mut().zip(&t) {
            *ratio = *ratio * t + coefficient;
        }
    }
    std::array::from_fn(|lane| {
        let z = x[lane].abs().clamp(0., FAR);
        // A neighbour whose square is exact. The rest is small, and 0 for an `f32`.
        let near = f64::from(z as f32);
        let rest = 0.5 * (z - near) * (z + near);
        let pdf =
            DENSITY_AT_0 * (-0.5 * near * near).exp() * (1. - rest * (1. - rest / 2. * (1. - rest / 3.)));
        let tail = pdf * ratio[lane] / (1. + z);
        (if x[lane] < 0. { tail } else { 1. - tail }, pdf)
    })
}

/// The same of a tensor, by operations that every device has.
fn cdf_and_pdf_of(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let z = x.abs()?.minimum(FAR)?;
    // A neighbour whose square is exact in `F32` too.
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

/// A function of `x`, `Φ(x)` and `φ(x)`: as one of numbers, and by operations that every device has.
fn elementwise(
    x: &Tensor,
    number: fn(f64, f64, f64) -> f64,
    tensor: fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let all = x.detach().to_dtype(wide)?;
    let y = if is_reference() || !all.device().is_cpu() {
        let (cdf, pdf) = cdf_and_pdf_of(&all)?;
        tensor(&all, &cdf, &pdf)?
    } else {
        all.contiguous()?.apply_op1_no_bwd(&Map(number))?
    };
    y.to_dtype(common_dtype(None, [x]))
}

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 13;

/// A function of `x`, `Φ(x)` and `φ(x)`, computed in `f64`.
struct Map(fn(f64, f64, f64) -> f64);

impl Map {
    fn all<T: WithDType>(&self, values: &[T]) -> Vec<T> {
        let mut all = vec![T::zero(); values.len()];
        pieces(&mut all, LANES, values.len() >= PARALLEL, |index, all| {
            let values = &values[index * LANES..][..all.len()];
            let mut x = [0.; LANES];
            x.iter_mut().zip(values).for_each(|(x, value)| *x = value.to_f64());
            for ((y, x), (cdf, pdf)) in all.iter_mut().zip(x).zip(cdf_and_pdf(x)) {
                *y = T::from_f64((self.0)(x, cdf, pdf));
            }
        });
        all
    }
}

impl CustomOp1 for Map {
    fn name(&self) -> &'static str {
        "normal"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let range = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
        let values = match x.dtype() {
            DType::F64 => CpuStorage::F64(self.all(&x.as_slice::<f64>()?[range])),
            _ => CpuStorage::F32(self.all(&x.as_slice::<f32>()?[range])),
        };
        Ok((values, layout.shape().clone()))
    }
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
