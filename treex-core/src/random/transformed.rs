//! Distributions that are functions of uniform, normal or exponential samples.

use candle_core::{DType, Device, Shape, Tensor, WithDType as _};

use super::continuous::wrong_type;
use super::real::Real;
use super::real_array::{RealArray, Wide, Zero, match_wide, out_of_range, samples};
use super::{Key, count};
use crate::error::Result;

/// Every `dtype` is `F32` or `F64`, except that of [`geometric`](Self::geometric). Parameters broadcast to `shape`.
impl Key {
    /// Log-normal, `exp(sigma * normal)`: `jax.random.lognormal(key, sigma, shape, dtype)`.
    ///
    /// # Errors
    /// If `sigma` does not broadcast to `shape`.
    pub fn lognormal<'a>(
        self,
        sigma: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (sigma, shape) = (sigma.into(), shape.into());
        match_wide!("lognormal", dtype, |T| {
            let sigma = sigma.values::<T>("lognormal", &shape)?;
            let normals = self.normal_values::<T>(sigma.len())?;
            samples(normals.into_iter().zip(sigma).map(|(n, sigma)| (n * sigma).exp()).collect(), &shape)
        })
    }

    /// Pareto, with the density `b / x^(b+1)` from 1 on: `jax.random.pareto(key, b, shape, dtype)`.
    ///
    /// # Errors
    /// If a `b` is not positive.
    pub fn pareto<'a>(
        self,
        b: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (b, shape) = (b.into(), shape.into());
        match_wide!("pareto", dtype, |T| {
            let b = b.positive::<T>("pareto", &shape, Zero::Excluded)?;
            let e = self.exponential_values::<T>(b.len())?;
            samples(e.into_iter().zip(b).map(|(e, b)| (e / b).exp()).collect(), &shape)
        })
    }

    /// Rayleigh, `scale * sqrt(-2 log(u))`: `jax.random.rayleigh(key, scale, shape, dtype)`. As in JAX, the uniform
    /// number 0, one of 2^23 in `F32`, gives infinity.
    ///
    /// # Errors
    /// If a `scale` is negative.
    pub fn rayleigh<'a>(
        self,
        scale: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (scale, shape) = (scale.into(), shape.into());
        match_wide!("rayleigh", dtype, |T| {
            let scale = scale.positive::<T>("rayleigh", &shape, Zero::Included)?;
            let u = self.uniform_values::<T>(scale.len())?;
            let sample = |(u, scale): (T, T)| scale * (Real::log(u) * T::of(-2.)).sqrt();
            samples(u.into_iter().zip(scale).map(sample).collect(), &shape)
        })
    }

    /// Weibull, with the distribution `1 - exp(-(x / scale)^concentration)`:
    /// `jax.random.weibull_min(key, scale, concentration, shape, dtype)`.
    ///
    /// # Errors
    /// If a `scale` is negative, or a `concentration` not positive.
    pub fn weibull_min<'a>(
        self,
        scale: impl Into<RealArray<'a>>,
        concentration: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (scale, concentration, shape) = (scale.into(), concentration.into(), shape.into());
        match_wide!("weibull_min", dtype, |T| {
            let scale = scale.positive::<T>("weibull_min", &shape, Zero::Included)?;
            let concentration = concentration.positive::<T>("weibull_min", &shape, Zero::Excluded)?;
            let e = self.exponential_values::<T>(scale.len())?;
            let sample = |(e, (scale, concentration)): (T, (T, T))| e.pow(1. / concentration) * scale;
            samples(e.into_iter().zip(scale.into_iter().zip(concentration)).map(sample).collect(), &shape)
        })
    }

    /// Triangular on [left, right] with its top at `mode`:
    /// `jax.random.triangular(key, left, mode, right, shape, dtype)`.
    ///
    /// # Errors
    /// If a triple is not in this order.
    pub fn triangular<'a>(
        self,
        left: impl Into<RealArray<'a>>,
        mode: impl Into<RealArray<'a>>,
        right: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let ([left, mode, right], shape) = ([left.into(), mode.into(), right.into()], shape.into());
        match_wide!("triangular", dtype, |T| {
            let values = |x: RealArray<'_>| x.values::<T>("triangular", &shape);
            let (left, mode, right) = (values(left)?, values(mode)?, values(right)?);
            let bounds: Vec<_> =
                left.into_iter().zip(mode.into_iter().zip(right)).map(|(l, (m, r))| [l, m, r]).collect();
            if let Some([_, mode, _]) = bounds.iter().find(|[l, m, r]| l > m || m > r) {
                return Err(out_of_range("triangular", "left <= mode <= right", mode.to_f64()));
            }
            let sample = |(u, [left, mode, right]): (T, [T; 3])| {
                let width = right - left;
                if u < (mode - left) / width {
                    left + (u * width * (mode - left)).sqrt()
                } else {
                    right - ((1. - u) * width * (right - mode)).sqrt()
                }
            };
            let u = self.uniform_values::<T>(bounds.len())?;
            samples(u.into_iter().zip(bounds).map(sample).collect(), &shape)
        })
    }

    /// Wald, the inverse Gaussian, of the given mean and of scale 1: `jax.random.wald(key, mean, shape, dtype)`.
    ///
    /// # Errors
    /// If a `mean` is not positive.
    pub fn wald<'a>(
        self,
        mean: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (mean, shape) = (mean.into(), shape.into());
        match_wide!("wald", dtype, |T| {
            let [key_normal, key_uniform] = self.split2();
            let mean = mean.positive::<T>("wald", &shape, Zero::Excluded)?;
            let draws = key_normal
                .normal_values::<T>(mean.len())?
                .into_iter()
                .zip(key_uniform.uniform_values::<T>(mean.len())?);
            let sample = |((v, z), mean): ((T, T), T)| {
                let (y, square) = (v * v, mean * mean);
                let root = (T::of(4.) * mean * y + square * (y * y)).sqrt();
                let x = mean + square * y / T::of(2.) - mean / T::of(2.) * root;
                if z <= mean / (mean + x) { x } else { square / x }
            };
            samples(draws.zip(mean).map(sample).collect(), &shape)
        })
    }

    /// Maxwell, the length of three normal numbers: `jax.random.maxwell(key, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is another.
    pub fn maxwell(self, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        let shape = shape.into();
        match_wide!("maxwell", dtype, |T| samples(self.maxwells::<T>(count(&shape)?)?, &shape))
    }

    /// `loc + scale * maxwell`, with a random sign of the second:
    /// `jax.random.double_sided_maxwell(key, loc, scale, shape, dtype)`.
    ///
    /// # Errors
    /// If `dtype` is another.
    pub fn double_sided_maxwell(
        self,
        loc: f64,
        scale: f64,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let shape = shape.into();
        match_wide!("double_sided_maxwell", dtype, |T| {
            let [key_length, key_sign] = self.split2();
            let lengths = key_length.maxwells::<T>(count(&shape)?)?;
            let signs = key_sign.rademacher(lengths.len(), dtype)?.to_vec1::<T>()?;
            let sample = |(length, sign): (T, T)| (sign * length).scale(T::of(scale), T::of(loc));
            samples(lengths.into_iter().zip(signs).map(sample).collect(), &shape)
        })
    }

    fn maxwells<T: Wide>(self, n: usize) -> Result<Vec<T>> {
        let normals = self.normal_values::<T>(3 * n)?;
        let (triples, _) = normals.as_chunks::<3>();
        Ok(triples.iter().map(|&[x, y, z]| (x * x + y * y + z * z).sqrt()).collect())
    }

    /// Geometric, the number of trials until the first success, from 1 on: `jax.random.geometric(key, p, shape, dtype)`
    /// for a `dtype` of `I32`, `U32` or `I64`. A number `p` has 32 bits, and 64 with `I64`, as in JAX's two modes; a
    /// tensor, `F32` or `F64`, has those of its type.
    ///
    /// # Errors
    /// If a `p` is not in (0, 1], or `dtype` is another.
    pub fn geometric<'a>(
        self,
        p: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (p, shape) = (p.into(), shape.into());
        if !matches!(dtype, DType::I32 | DType::U32 | DType::I64) {
            return Err(wrong_type("geometric", "`i32`, `u32` or `i64`", dtype));
        }
        match_wide!("geometric", p.precision(dtype), |T| self.trials::<T>(p, &shape, dtype))
    }

    fn trials<T: Wide>(self, p: RealArray<'_>, shape: &Shape, dtype: DType) -> Result<Tensor> {
        let p = p.values::<T>("geometric", shape)?;
        if let Some(bad) = p.iter().find(|p| !(**p > T::zero() && **p <= T::one())) {
            return Err(out_of_range("geometric", "a probability above 0", bad.to_f64()));
        }
        let u = self.uniform_values::<T>(p.len())?;
        let sample = |(u, p): (T, T)| {
            let log_u = if u == T::zero() { T::zero() } else { Real::log(u) };
            ((log_u / Real::log1p(-p)).floor() + T::one()).to_f64() as i64
        };
        let trials = Tensor::from_iter(u.into_iter().zip(p).map(sample), &Device::Cpu)?;
        Ok(trials.to_dtype(dtype)?.reshape(shape)?)
    }
}
