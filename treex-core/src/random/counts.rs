//! Distributions of counts: Poisson, binomial and multinomial. Each sample is drawn from the words at its index under
//! one key after the other, of a chain that all samples share.
//!
//! Where samples are rejected, JAX draws for all of them until each was accepted once, and takes the last accepted. So
//! do these, to give the same numbers; they depend on the shape and on the parameters of the other samples.

use candle_core::{DType, Device, Shape, Tensor};

use super::Key;
use super::choice::cumulative;
use super::continuous::wrong_type;
use super::real::Real;
use super::real_array::{RealArray, Wide, match_wide, out_of_range, samples, wrong_wide_type};
use crate::error::{Error, Result};

impl Key {
    /// Poisson with the mean `lam`: `jax.random.poisson(key, lam, shape, dtype)` for a `dtype` of `I32`, `U32` or `I64`.
    /// As in JAX, all arithmetic is `f32`: Knuth's method below a mean of 10, Hormann's transformed rejection above.
    ///
    /// ```
    /// use candle_core::DType;
    /// use treex_core::random::Key;
    ///
    /// let counts = Key::from(42).poisson(3., 8, DType::I64)?;
    /// assert_eq!(counts.dims(), [8]);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a mean is negative, NaN or above 2^30, where JAX's samples are -1 or wrong; or if `dtype` is another.
    pub fn poisson<'a>(
        self,
        lam: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let shape = shape.into();
        if !matches!(dtype, DType::I32 | DType::U32 | DType::I64) {
            return Err(wrong_type("poisson", "`i32`, `u32` or `i64`", dtype));
        }
        let means = lam.into().values::<f32>("poisson", &shape)?;
        if let Some(bad) = means.iter().find(|mean| !(0. ..=(1 << 30) as f32).contains(*mean)) {
            return Err(out_of_range("poisson", "a mean from 0 to 2^30", (*bad).into()));
        }
        let is_small = |mean: f32| mean < 10.;
        // JAX also rejects for the small means, as if they were large, and drops these samples.
        let large = means.iter().map(|&mean| PoissonRejection::new(if is_small(mean) { 1e5 } else { mean }));
        let large = if means.iter().copied().all(is_small) {
            vec![0.; means.len()]
        } else {
            self.last_accepted(large.collect())
        };
        let mut small = Chain::new(self, |key| key.split2());
        let draw = |((mean, large), index): ((f32, f32), u64)| match mean {
            0. => 0,
            mean if is_small(mean) => by_knuth(&mut small, index, mean),
            _ => large as i64,
        };
        let draws = means.into_iter().zip(large).zip(0..).map(draw);
        Ok(Tensor::from_iter(draws, &Device::Cpu)?.to_dtype(dtype)?.reshape(shape)?)
    }

    /// Binomial: the successes of `n` trials of probability `p`, as floats: `jax.random.binomial(key, n, p, shape, dtype)`
    /// for a `dtype` of `F32` or `F64`. As in JAX, a negative or NaN parameter gives NaN; and `p` has the type of the
    /// samples if it is a number, or its own.
    ///
    /// # Errors
    /// If a parameter does not broadcast to `shape`, or a finite `n` is above 2^53.
    pub fn binomial<'a>(
        self,
        n: impl Into<RealArray<'a>>,
        p: impl Into<RealArray<'a>>,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (n, p, shape) = (n.into(), p.into(), shape.into());
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(wrong_wide_type("binomial", dtype));
        }
        match_wide!("binomial", p.precision(dtype), |T| {
            let (n, p) = (n.values::<T>("binomial", &shape)?, p.values::<T>("binomial", &shape)?);
            Ok(samples(self.binomials("binomial", &n, &p)?, &shape)?.to_dtype(dtype)?)
        })
    }

    /// Multinomial: how often each of the categories along the last axis of `p` occurs in `n` trials, as floats:
    /// `jax.random.multinomial(key, n, p, shape=shape, dtype=dtype)`. The shape of the result ends in that axis; `n`
    /// broadcasts to the other dimensions.
    ///
    /// # Errors
    /// If `p` is a scalar, a parameter does not broadcast, or a finite `n` is above 2^53.
    pub fn multinomial<'a>(
        self,
        n: impl Into<RealArray<'a>>,
        p: &Tensor,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Tensor> {
        let (n, shape) = (n.into(), shape.into());
        let (Some((&k, rows)), 1..) = (shape.dims().split_last(), p.rank()) else {
            return Err(Error::shape("`multinomial` needs an axis of categories")
                .expected("[.., k]")
                .found(format!("{:?} for probabilities of shape {:?}", shape.dims(), p.dims()))
                .remedy("give one probability for each of the k categories"));
        };
        match_wide!("multinomial", dtype, |T| {
            let mut remaining = n.values::<T>("multinomial", &Shape::from(rows))?;
            let p = RealArray::from(p).values::<T>("multinomial", &shape)?;
            let ratios: Vec<Vec<T>> = p.chunks(k.max(1)).map(conditional).collect();
            let mut counts = vec![T::of(0.); p.len()];
            for (category, key) in self.split(k).into_iter().enumerate() {
                let ratios: Vec<T> = ratios.iter().map(|row| row[category]).collect();
                for (row, drawn) in key.binomials("multinomial", &remaining, &ratios)?.into_iter().enumerate()
                {
                    counts[row * k + category] = drawn;
                    remaining[row] -= drawn;
                }
            }
            samples(counts, &shape)
        })
    }

    fn binomials<T: Wide>(self, sampler: &str, n: &[T], p: &[T]) -> Result<Vec<T>> {
        // Beyond, a float is no count, and no sample might ever be accepted.
        let is_count = |n: &f64| *n <= (1u64 << 53) as f64 || !n.is_finite();
        if let Some(bad) = n.iter().map(|n| n.to_f64()).find(|n| !is_count(n)) {
            return Err(out_of_range(sampler, "at most 2^53 trials", bad));
        }
        let (zero, one) = (T::zero(), T::one());
        // The rarer of success and failure is counted.
        let is_rare = |p: T| p < T::of(0.5);
        // Of -0, the sum makes 0, whose logarithm has the sign at which a draw by inversion ends.
        let rarer = |p: T| if is_rare(p) { p + zero } else { one - p };
        let is_invalid = |n: T, q: T| n.is_nan() || n < zero || q.is_nan() || q < zero;
        // JAX also rejects for the samples of the other method, with this n and q, and drops the results.
        let large = |(&n, &p): (&T, &T)| {
            let q = rarer(p);
            let q = if q.is_nan() || q < zero { T::of(0.01) } else { q };
            let is_small = n.is_nan() || n < zero || n.to_f64().is_infinite() || n * q <= T::of(10.);
            if is_small { None } else { Some(BinomialRejection::new(n.floor(), q)) }
        };
        let large: Vec<_> = n.iter().zip(p).map(large).collect();
        let rejected = if large.iter().all(Option::is_none) {
            vec![zero; n.len()]
        } else {
            let dropped = || BinomialRejection::new(T::of(1e4), T::of(0.5));
            self.last_accepted(large.iter().map(|large| large.unwrap_or_else(dropped)).collect())
        };
        let mut small = Chain::new(self, |key| {
            let [subkey, next] = key.split2();
            [next, subkey]
        });
        let mut drawn = rejected;
        for (index, (count, (&n, &p))) in (0..).zip(drawn.iter_mut().zip(n.iter().zip(p))) {
            let (q, whole) = (rarer(p), n.floor());
            if is_invalid(n, q) {
                *count = T::of(f64::NAN);
            } else if n.to_f64().is_infinite() {
                *count = n;
            } else {
                if large[index].is_none() {
                    *count = by_inversion(&mut small, index as u64, whole, q);
                }
                *count = if is_rare(p) { *count } else { whole - *count };
            }
        }
        Ok(drawn)
    }

    /// For each sample, the last value that it accepted when each had accepted one. A round draws two uniform numbers for
    /// each, from the second and third of three keys, of which the first is for the next round.
    fn last_accepted<R: Rejection>(self, samples: Vec<R>) -> Vec<R::Value> {
        let mut accepted = vec![None; samples.len()];
        let mut next = self;
        while accepted.iter().any(Option::is_none) {
            let [key, first, second] = [0, 1, 2].map(|index| Self(next.block(index)));
            next = key;
            for (index, (sample, accepted)) in (0..).zip(samples.iter().zip(&mut accepted)) {
                let [u, v] = [first, second].map(|key| R::Value::unit(key.block(index)));
                *accepted = sample.accept(u, v).or(*accepted);
            }
        }
        accepted.into_iter().flatten().collect()
    }
}

/// A sample that is drawn until it is accepted.
trait Rejection {
    type Value: Wide;

    /// The value for two uniform numbers, unless it is rejected.
    fn accept(&self, u: Self::Value, v: Self::Value) -> Option<Self::Value>;
}

/// The keys of one round after the other, for any number of samples.
struct Chain {
    next: Key,
    /// The key of the next round, and that of this one.
    split: fn(Key) -> [Key; 2],
    rounds: Vec<Key>,
}

impl Chain {
    fn new(key: Key, split: fn(Key) -> [Key; 2]) -> Self {
        Self { next: key, split, rounds: Vec::new() }
    }

    /// The uniform number of a sample in a round, which is at most one more than the last round so far.
    fn uniform<T: Real>(&mut self, round: usize, index: u64) -> T {
        if round == self.rounds.len() {
            let [next, key] = (self.split)(self.next);
            self.next = next;
            self.rounds.push(key);
        }
        T::unit(self.rounds[round].block(index))
    }
}

/// Multiplies uniform numbers until the product is below exp(-mean).
fn by_knuth(chain: &mut Chain, index: u64, mean: f32) -> i64 {
    let (mut log_product, mut draws) = (0., 0);
    while log_product > -mean {
        let u: f32 = chain.uniform(draws, index);
        log_product += Real::log(u);
        draws += 1;
    }
    draws as i64 - 1
}

/// Hormann, "The transformed rejection method for generating Poisson random variables" (1993).
struct PoissonRejection {
    mean: f32,
    log_mean: f32,
    a: f32,
    b: f32,
    inv_alpha: f32,
    v_r: f32,
}

impl PoissonRejection {
    fn new(mean: f32) -> Self {
        let b = 2.53f32.mul_add(mean.sqrt(), 0.931);
        let a = 0.02483f32.mul_add(b, -0.059);
        let inv_alpha = 1.1239 + 1.1328 / (b - 3.4);
        Self { mean, log_mean: Real::log(mean), a, b, inv_alpha, v_r: 0.9277 - 3.6224 / (b - 2.) }
    }
}

impl Rejection for PoissonRejection {
    type Value = f32;

    fn accept(&self, u: f32, v: f32) -> Option<f32> {
        let Self { mean, log_mean, a, b, inv_alpha, v_r } = *self;
        let u = u - 0.5;
        let shifted = 0.5 - u.abs();
        let k = ((2. * a / shifted + b).mul_add(u, mean) + 0.43).floor();
        if shifted >= 0.07 && v <= v_r {
            return Some(k);
        }
        if k < 0. || shifted < 0.013 && v > shifted {
            return None;
        }
        let s: f32 = Real::log(v * inv_alpha / (a / (shifted * shifted) + b));
        (s <= k.mul_add(log_mean, -mean) - ln_gamma(k + 1.)).then_some(k)
    }
}

/// log(gamma(x)) for x from 1 on, by Lanczos' approximation as XLA computes it.
fn ln_gamma(x: f32) -> f32 {
    const COEFFICIENTS: [f32; 8] = [
        676.520_4,
        -1_259.139_2,
        771.323_4,
        -176.615_02,
        12.507_343,
        -0.138_571_1,
        9.984_369e-6,
        1.505_632_7e-7,
    ];
    let z = x - 1.;
    let terms = COEFFICIENTS.iter().zip(1u8..);
    let sum = terms.fold(1f32, |sum, (coefficient, i)| sum + coefficient / (z + f32::from(i)));
    let t = 7.5 + z;
    let log_t = Real::log1p(z / 7.5) + 7.5f32.ln();
    let log_sqrt_2_pi = 0.918_938_5;
    (z + 0.5 - t / log_t).mul_add(log_t, log_sqrt_2_pi) + Real::log(sum)
}

/// Counts geometric waiting times until their sum is above `n`, for which `n q` is at most 10.
fn by_inversion<T: Wide>(chain: &mut Chain, index: u64, n: T, q: T) -> T {
    let log_failure = Real::log1p(-q);
    let (mut sum, mut draws) = (T::zero(), 0);
    while sum <= n {
        let u: T = chain.uniform(draws, index);
        // The ceiling.
        sum -= (-(Real::log(u) / log_failure)).floor();
        draws += 1;
    }
    T::of(draws as f64 - 1.)
}

/// Hormann, "The generation of binomial random variates" (1993): transformed rejection with squeeze.
#[derive(Clone, Copy)]
struct BinomialRejection<T> {
    n: T,
    a: T,
    b: T,
    c: T,
    v_r: T,
    r: T,
    alpha: T,
    m: T,
}

impl<T: Wide> BinomialRejection<T> {
    fn new(n: T, q: T) -> Self {
        let (one, of) = (T::one(), T::of);
        let deviation = (n * q * (one - q)).sqrt();
        let b = of(1.15) + of(2.53) * deviation;
        Self {
            n,
            a: of(-0.0873) + of(0.0248) * b + of(0.01) * q,
            b,
            c: n * q + of(0.5),
            v_r: of(0.92) - of(4.2) / b,
            r: q / (one - q),
            alpha: (of(2.83) + of(5.1) / b) * deviation,
            m: ((n + one) * q).floor(),
        }
    }
}

impl<T: Wide> Rejection for BinomialRejection<T> {
    type Value = T;

    fn accept(&self, u: T, v: T) -> Option<T> {
        let Self { n, a, b, c, v_r, r, alpha, m } = *self;
        let (one, half) = (T::one(), T::of(0.5));
        let u = u - half;
        let us = half - u.abs();
        let k = ((T::of(2.) * a / us + b) * u + c).floor();
        if us >= T::of(0.07) && v <= v_r {
            return Some(k);
        }
        if k < T::zero() || k > n {
            return None;
        }
        let v = Real::log(v * alpha / (a / (us * us) + b));
        let bound = (m + half) * Real::log((m + one) / (r * (n - m + one)))
            + (n + one) * Real::log((n - m + one) / (n - k + one))
            + (k + half) * Real::log(r * (n - k + one) / (k + one))
            + stirling_tail(m)
            + stirling_tail(n - m)
            - stirling_tail(k)
            - stirling_tail(n - k);
        (v <= bound).then_some(k)
    }
}

/// What Stirling's approximation lacks of log(k!).
fn stirling_tail<T: Wide>(k: T) -> T {
    const SMALL: [f64; 10] = [
        0.0810614667953272,
        0.0413406959554092,
        0.0276779256849983,
        0.02079067210376509,
        0.0166446911898211,
        0.0138761288230707,
        0.0118967099458917,
        0.0104112652619720,
        0.00925546218271273,
        0.00833056343336287,
    ];
    if k <= T::of(9.) {
        return T::of(SMALL[k.to_f64() as usize]);
    }
    let next = k + T::one();
    let square = next * next;
    (T::of(1. / 12.) - (T::of(1. / 360.) - T::of(1. / 1260.) / square) / square) / next
}

/// The probability of each category if none of those before it occurred.
fn conditional<T: Wide>(p: &[T]) -> Vec<T> {
    let reversed: Vec<T> = p.iter().rev().copied().collect();
    let remaining = cumulative(&reversed).into_iter().rev();
    let ratio = |(&p, remaining): (&T, T)| {
        let ratio = p / if remaining == T::zero() { T::one() } else { remaining };
        ratio.at_least(T::zero()).at_most(T::one())
    };
    p.iter().zip(remaining).map(ratio).collect()
}
