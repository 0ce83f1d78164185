//! The exact GELU, `x Φ(x)`, and its derivative, with the normal distribution `Φ` to all digits in both tails.
//!
//! `Φ(-x) = φ(x) R(x)` for `x ≥ 0`, where `φ` is the density and `R` Mills' ratio, which varies slowly:
//! `(1 + x) R(x)` is a polynomial in `(x - 5) / (x + 5)` to the last digit of `f64`. In `φ(x)`, digits are lost where
//! `x²` is rounded before the exponential, which is therefore taken of a neighbour of `x` whose square is exact.

use crate::error::Result;
use crate::fill::filled;
use crate::math::Real;
use crate::parallel::pieces;

entry_points! {
    /// The exact GELU, computed in `f64`.
    pub trait ExactGelu: Real for [f32, f64] {
        /// `x Φ(x)`: 0 where `Φ(x)` is 0, also for negative infinity.
        ///
        /// # Errors
        /// If memory cannot be allocated.
        fn exact_gelu(x: &[Self]) -> Result<Vec<Self>> = exact_gelu;

        /// `Φ(x) + x φ(x)`: `Φ(x)` where `φ(x)` is 0, also for infinities.
        ///
        /// # Errors
        /// If memory cannot be allocated.
        fn exact_gelu_derivative(x: &[Self]) -> Result<Vec<Self>> = exact_gelu_derivative;
    }
}

/// Fewer elements than this run on the calling thread.
const PARALLEL: usize = 1 << 13;

/// `(1 + x) R(x)` in powers of `(x - 5) / (x + 5)`, constant term first: a Chebyshev interpolation computed with 60
/// digits, whose relative error is below 4e-16 when evaluated in `f64`; the script of the GELU's tests prints it.
pub const MILLS: [f64; 24] = [
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
pub const DENSITY_AT_0: f64 = 0.398_942_280_401_432_7;

/// Beyond this, both tails are 0 in `f64`.
pub const FAR: f64 = 40.;

/// Numbers that are computed side by side, so that the compiler vectorizes.
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

fn exact_gelu<T: Real>(x: &[T]) -> Result<Vec<T>> {
    map(x, |x, cdf, _| x.clamp(-FAR, f64::INFINITY) * cdf)
}

fn exact_gelu_derivative<T: Real>(x: &[T]) -> Result<Vec<T>> {
    map(x, |x, cdf, pdf| cdf + x.clamp(-FAR, FAR) * pdf)
}

/// `f` of each `x`, `Φ(x)` and `φ(x)`.
fn map<T: Real>(x: &[T], f: impl Fn(f64, f64, f64) -> f64 + Sync) -> Result<Vec<T>> {
    // SAFETY: the pieces are the whole buffer, and each element of a piece is written: it has at most as many elements
    // as there are lanes.
    unsafe {
        filled(x.len(), |y| {
            pieces(y, LANES, x.len() >= PARALLEL, |index, y| {
                let values = &x[index * LANES..][..y.len()];
                let mut x = [0.; LANES];
                x.iter_mut().zip(values).for_each(|(x, value)| *x = value.to_f64());
                for ((y, x), (cdf, pdf)) in y.iter_mut().zip(x).zip(cdf_and_pdf(x)) {
                    y.write(T::of(f(x, cdf, pdf)));
                }
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Φ(x)` by the series of its density around 0, which converges fast for small `x`.
    fn cdf(x: f64) -> f64 {
        let mut term = x;
        let mut sum = x;
        for n in 1..200 {
            term *= x * x / f64::from(2 * n + 1);
            sum += term;
        }
        0.5 + DENSITY_AT_0 * (-x * x / 2.).exp() * sum
    }

    #[test]
    fn by_the_series() -> Result<()> {
        // Lengths around those of lanes, and above that from which threads share the work.
        for len in [0, 1, 7, 8, 9, 10_001] {
            let x: Vec<f64> = (0..len).map(|i| f64::from(i % 601) * 0.01 - 3.).collect();
            let (y, dy) = (f64::exact_gelu(&x)?, f64::exact_gelu_derivative(&x)?);
            assert_eq!([y.len(), dy.len()], [x.len(); 2]);
            for ((x, y), dy) in x.iter().zip(y).zip(dy) {
                let pdf = DENSITY_AT_0 * (-x * x / 2.).exp();
                assert!((y - x * cdf(*x)).abs() < 1e-14, "{x}: {y}");
                assert!((dy - cdf(*x) - x * pdf).abs() < 1e-14, "{x}: {dy}");
            }
        }
        Ok(())
    }

    /// Asymptotically, `Φ(-x) = φ(x) (1/x - 1/x³ + 3/x⁵ - ..)`: the tail has all of its digits.
    #[test]
    fn in_the_tail() -> Result<()> {
        let x = [-20f64, -30.];
        for (x, y) in x.iter().zip(f64::exact_gelu(&x)?) {
            let (mut term, mut sum) = (1., 1.);
            for n in 1..12 {
                term *= -f64::from(2 * n - 1) / (x * x);
                sum += term;
            }
            let expected = -DENSITY_AT_0 * (-x * x / 2.).exp() * sum;
            assert!((y / expected - 1.).abs() < 1e-13, "{x}: {y} {expected}");
        }
        Ok(())
    }

    #[test]
    fn infinities_and_nan() -> Result<()> {
        let x = [f32::NEG_INFINITY, -1e30, -0., 1e30, f32::INFINITY, f32::NAN];
        let (y, dy) = (f32::exact_gelu(&x)?, f32::exact_gelu_derivative(&x)?);
        assert_eq!(y[..5], [0., 0., 0., 1e30, f32::INFINITY]);
        assert_eq!(dy[..5], [0., 0., 0.5, 1., 1.]);
        assert!(y[5].is_nan() && dy[5].is_nan());
        Ok(())
    }
}
