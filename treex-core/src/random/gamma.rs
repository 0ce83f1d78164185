//! The gamma distribution, and those that are made of gamma samples.

use candle_core::{DType, Shape, Tensor};

use super::distribution::{Distribution as _, Exponential, Normal};
use super::real::Real;
use super::real_array::{RealArray, Wide, Zero, match_wide, out_of_range, samples};
use super::{Key, Sampler, count, filled};
use crate::error::{Error, Result};

/// `a` is the shape of a gamma distribution, its scale is 1. Every `dtype` is `F32` or `F64`. As in JAX, small `a` are
/// drawn by logarithms where the result is not itself a gamma sample.
impl Key {
    /// Gamma, with the density `x^(a-1) exp(-x) / gamma(a)`: `jax.random.gamma(key, a, shape, dtype)`, by the rejection
    /// method of Marsaglia and Tsang, "A simple method for generating gamma variables" (2000). A small `a` gives 0
    /// where the sample is below the smallest number: then use [`loggamma`](Self::loggamma).
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use treex_core::random::Key;
    ///
    /// let a = Tensor::new(&[0.5f32, 2., 30.], &Device::Cpu)?;
    /// let rows = Key::from(42).gamma(&a, (4, 3), DType::F32)?;
    /// assert_eq!(rows.dims(), [4, 3]);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If an `a` is negative, where JAX's samples are meaningless, or does not broadcast to `shape`.
    pub fn gamma<'a>(
        self,
        a: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        self.gamma_samples("gamma", a.into(), shape.into(), dtype, Scale::Linear)
    }

    /// The logarithm of a gamma sample, accurate for small `a`: `jax.random.loggamma(key, a, shape, dtype)`.
    ///
    /// # Errors
    /// As [`gamma`](Self::gamma).
    pub fn loggamma<'a>(
        self,
        a: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        self.gamma_samples("loggamma", a.into(), shape.into(), dtype, Scale::Log)
    }

    fn gamma_samples(
        self,
        name: &'static str,
        a: RealArray<'_>,
        shape: Shape,
        dtype: DType,
        scale: Scale,
    ) -> Result<Tensor> {
        match_wide!(name, dtype, |T| {
            let a = a.positive::<T>(name, &shape, Zero::Included)?;
            samples(self.gammas::<T>(&a, scale)?, &shape)
        })
    }

    /// Beta on (0, 1), with the density in proportion to `x^(a-1) (1-x)^(b-1)`:
    /// `jax.random.beta(key, a, b, shape, dtype)`.
    ///
    /// # Errors
    /// As [`gamma`](Self::gamma), for each parameter.
    pub fn beta<'a>(
        self,
        a: impl Into<RealArray<'a>>,
        b: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (a, b, shape) = (a.into(), b.into(), shape.into());
        match_wide!("beta", dtype, |T| {
            let [key_a, key_b] = self.split2();
            let a = key_a.gammas(&a.positive::<T>("beta", &shape, Zero::Included)?, Scale::Log)?;
            let b = key_b.gammas(&b.positive::<T>("beta", &shape, Zero::Included)?, Scale::Log)?;
            let share = |(a, b): (T, T)| {
                let top = if a < b { b } else { a };
                let [a, b] = [(a - top).exp(), (b - top).exp()];
                a / (a + b)
            };
            samples(a.into_iter().zip(b).map(share).collect(), &shape)
        })
    }

    /// Dirichlet: non-negative numbers along the last axis that sum to 1, of the shape `[*shape, k]` for an `alpha` of
    /// shape `[.., k]`, whose other dimensions broadcast to `shape`:
    /// `jax.random.dirichlet(key, alpha, shape, dtype)`.
    ///
    /// # Errors
    /// If an `alpha` is negative, or has no axis, or does not broadcast.
    pub fn dirichlet(self, alpha: &Tensor, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let shape = shape.into();
        let Some(&k) = alpha.dims().last() else {
            return Err(Error::shape("the concentrations of `dirichlet` are a scalar")
                .expected("[.., k]")
                .found("[]")
                .remedy("give one concentration for each of the k parts"));
        };
        let shape = Shape::from([shape.dims(), &[k]].concat());
        count(&shape)?;
        match_wide!("dirichlet", dtype, |T| {
            let alpha = RealArray::from(alpha).positive::<T>("dirichlet", &shape, Zero::Included)?;
            let mut parts = self.gammas(&alpha, Scale::Log)?;
            parts.chunks_mut(k.max(1)).for_each(softmax);
            samples(parts, &shape)
        })
    }

    /// Chi-squared with `df` degrees of freedom: `jax.random.chisquare(key, df, shape, dtype)`.
    ///
    /// # Errors
    /// As [`gamma`](Self::gamma).
    pub fn chisquare<'a>(
        self,
        df: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (df, shape) = (df.into(), shape.into());
        match_wide!("chisquare", dtype, |T| {
            let df = df.positive::<T>("chisquare", &shape, Zero::Included)?;
            samples(self.chi_squares(&df)?, &shape)
        })
    }

    /// Fisher's F with `dfnum` and `dfden` degrees of freedom: `jax.random.f(key, dfnum, dfden, shape, dtype)`.
    ///
    /// # Errors
    /// If degrees of freedom are not positive, or do not broadcast to `shape`.
    pub fn f<'a>(
        self,
        dfnum: impl Into<RealArray<'a>>,
        dfden: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (dfnum, dfden, shape) = (dfnum.into(), dfden.into(), shape.into());
        match_wide!("f", dtype, |T| {
            let [key_den, key_num] = self.split2();
            let dfnum = dfnum.positive::<T>("f", &shape, Zero::Excluded)?;
            let dfden = dfden.positive::<T>("f", &shape, Zero::Excluded)?;
            let numerators = key_num.chi_squares(&dfnum)?.into_iter().zip(dfnum).map(|(x, df)| x / df);
            let denominators = key_den.chi_squares(&dfden)?.into_iter().zip(dfden).map(|(x, df)| x / df);
            samples(numerators.zip(denominators).map(|(a, b)| a / b).collect(), &shape)
        })
    }

    /// Student's t with `df` degrees of freedom: `jax.random.t(key, df, shape, dtype)`.
    ///
    /// # Errors
    /// If degrees of freedom are not positive, or do not broadcast to `shape`.
    pub fn t<'a>(
        self,
        df: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (df, shape) = (df.into(), shape.into());
        match_wide!("t", dtype, |T| {
            let [key_normal, key_gamma] = self.split2();
            let half: Vec<T> =
                df.positive::<T>("t", &shape, Zero::Excluded)?.into_iter().map(|df| df / T::of(2.)).collect();
            let normals = key_normal.normal_values::<T>(half.len())?;
            let gammas = key_gamma.gammas(&half, Scale::Linear)?;
            let scaled = normals.into_iter().zip(half.into_iter().zip(gammas));
            samples(scaled.map(|(n, (half, gamma))| n * (half / gamma).sqrt()).collect(), &shape)
        })
    }

    /// Generalized normal, with the density in proportion to `exp(-|x|^p)`:
    /// `jax.random.generalized_normal(key, p, shape, dtype)`.
    ///
    /// # Errors
    /// If `p` is not positive.
    pub fn generalized_normal(self, p: f64, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let shape = shape.into();
        check_power("generalized_normal", p)?;
        match_wide!("generalized_normal", dtype, |T| {
            samples(self.generalized_normals::<T>(p, count(&shape)?)?, &shape)
        })
    }

    /// Uniform in the unit ball of `d` dimensions under the `p` norm, of the shape `[*shape, d]`:
    /// `jax.random.ball(key, d, p, shape, dtype)`. The usual ball has `p = 2.`.
    ///
    /// # Errors
    /// If `p` is not positive.
    pub fn ball(self, d: usize, p: f64, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let shape = Shape::from([shape.into().dims(), &[d]].concat());
        check_power("ball", p)?;
        match_wide!("ball", dtype, |T| {
            let [key_direction, key_radius] = self.split2();
            let mut points = key_direction.generalized_normals::<T>(p, count(&shape)?)?;
            let rows = points.chunks_mut(d.max(1));
            let radii = key_radius.exponential_values::<T>(rows.len())?;
            for (point, radius) in rows.zip(radii) {
                let sum = point.iter().fold(0., |sum, x| sum + x.abs().pow(T::of(p)));
                let norm = (sum + radius).pow(T::of(1. / p));
                point.iter_mut().for_each(|x| *x /= norm);
            }
            samples(points, &shape)
        })
    }

    fn gammas<T: Wide>(self, a: &[T], scale: Scale) -> Result<Vec<T>> {
        self.map(0, a, Gamma { scale })
    }

    fn chi_squares<T: Wide>(self, df: &[T]) -> Result<Vec<T>> {
        let half: Vec<T> = df.iter().map(|&df| df / T::of(2.)).collect();
        let logs = self.gammas(&half, Scale::Log)?;
        Ok(logs.into_iter().map(|log| log.exp() * T::of(2.)).collect())
    }

    fn generalized_normals<T: Wide>(self, p: f64, n: usize) -> Result<Vec<T>> {
        let [key_gamma, key_sign] = self.split2();
        let gammas = key_gamma.gammas(&filled(n, |_| T::of(1. / p))?, Scale::Linear)?;
        let signs = key_sign.rademacher(n, T::DTYPE)?.to_vec1::<T>()?;
        let power = T::of(1. / p);
        Ok(gammas.into_iter().zip(signs).map(|(gamma, sign)| sign * gamma.pow(power)).collect())
    }
}

fn check_power(sampler: &str, p: f64) -> Result<()> {
    if p > 0. { Ok(()) } else { Err(out_of_range(sampler, "a power above 0", p)) }
}

/// `exp(x - max) / sum`.
fn softmax<T: Wide>(x: &mut [T]) {
    let top = x.iter().fold(-T::one() / T::zero(), |top, &x| if x > top { x } else { top });
    x.iter_mut().for_each(|x| *x = (*x - top).exp());
    let sum = x.iter().fold(T::zero(), |sum, &x| sum + x);
    x.iter_mut().for_each(|x| *x /= sum);
}

/// Whether gamma samples or their logarithms are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
}

/// Gamma samples of the shapes `a`. The words at an index are a key of their own, from which any number are drawn.
#[derive(Clone, Copy)]
struct Gamma {
    scale: Scale,
}

impl<T: Wide> Sampler<T> for Gamma {
    type Output = T;

    #[inline(always)]
    fn sample(&self, block: [u32; 2], a: T) -> T {
        gamma_sample(Key(block), a, self.scale)
    }
}

fn gamma_sample<T: Wide>(key: Key, a: T, scale: Scale) -> T {
    let (one, half, third) = (T::one(), T::of(0.5), T::of(1. / 3.));
    // Gamma(a) is Gamma(a + 1) * u^(1 / a), which the method below needs for a < 1.
    let is_boosted = a < one;
    let d = if is_boosted { a + one } else { a } - third;
    let c = third / d.sqrt();
    let [mut key, boost_key] = key.split2();
    let v = loop {
        let [next, x_key, u_key] = [0, 1, 2].map(|index| Key(key.block(index)));
        key = next;
        let (x, v) = normal_above(x_key, c);
        let (square, v) = (x * x, v * v * v);
        let u = T::unit(u_key.block(0));
        // Not `<`: with NaN, every sample is accepted.
        let is_rejected = u >= one - T::of(0.0331) * (square * square)
            && Real::log(u) >= square * half + d * ((one - v) + Real::log(v));
        if !is_rejected {
            break v;
        }
    };
    match scale {
        Scale::Log => {
            let log_u = -Exponential::sample::<T>((), boost_key.block(0));
            let boost = if is_boosted && log_u != T::zero() { log_u * (one / a) } else { T::zero() };
            (Real::log(d) + Real::log(v)) + boost
        }
        Scale::Linear => {
            let boost = if is_boosted { (one - T::unit(boost_key.block(0))).pow(one / a) } else { one };
            d * v * boost
        }
    }
}

/// A normal sample `x` for which `1 + c x` is positive, and that number.
fn normal_above<T: Wide>(mut key: Key, c: T) -> (T, T) {
    loop {
        let [next, sample_key] = key.split2();
        key = next;
        let x = Normal::sample::<T>(Normal.arguments::<T>(), sample_key.block(0));
        let v = x.scale(c, T::one());
        if v > T::zero() || v.is_nan() {
            return (x, v);
        }
    }
}
