//! The continuous distributions: how each computes a sample from the random words at its index.

use std::f64::consts::{PI, SQRT_2};

use super::Sampler;
use super::real::Real;

/// A distribution that can be drawn in every [`Real`] type.
pub(super) trait Distribution {
    /// The name of the sampler.
    const NAME: &'static str;
    /// Constants of all samples, in the type `T`.
    type Arguments<T: Real>: Copy + Send + Sync;

    fn arguments<T: Real>(&self) -> Self::Arguments<T>;

    /// The sample for two random words.
    fn sample<T: Real>(arguments: Self::Arguments<T>, block: [u32; 2]) -> T;

    /// The scalar sampler, the oracle of the vector loops.
    #[cfg(test)]
    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T + Copy + Send + Sync {
        let arguments = self.arguments();
        move |block| Self::sample(arguments, block)
    }
}

/// The samples of a distribution in the type `T`.
pub(super) struct Draw<D: Distribution, T: Real>(pub(super) D::Arguments<T>);

impl<D: Distribution, T: Real> Clone for Draw<D, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Distribution, T: Real> Copy for Draw<D, T> {}

impl<D: Distribution, T: Real> Sampler for Draw<D, T> {
    type Output = T;

    #[inline(always)]
    fn sample(&self, block: [u32; 2], (): ()) -> T {
        D::sample(self.0, block)
    }
}

/// The lower bound of a uniform distribution, and its width.
type Interval<T> = [T; 2];

fn interval<T: Real>(minval: T, maxval: T) -> Interval<T> {
    [minval, maxval - minval]
}

/// The interval (-1, 1).
fn signed<T: Real>() -> Interval<T> {
    interval((-T::one()).above(), T::one())
}

#[inline(always)]
fn uniform<T: Real>(block: [u32; 2], [minval, span]: Interval<T>) -> T {
    T::unit(block).scale(span, minval).at_least(minval)
}

/// Uniform on [tiny, 1), for logarithms. XLA adds -1 + tiny, which rounds to -1, to the number in [1, 2), so that tiny
/// only replaces 0.
#[inline(always)]
fn positive<T: Real>(block: [u32; 2]) -> T {
    T::unit(block).at_least(T::TINY)
}

/// sqrt(2) * erf_inv(u): normal for u uniform on (-1, 1).
#[inline(always)]
fn quantile<T: Real>(u: T) -> T {
    T::narrow(T::of(SQRT_2).widen() * u.erf_inv().widen())
}

pub(super) struct Uniform {
    pub(super) minval: f64,
    pub(super) maxval: f64,
}

impl Distribution for Uniform {
    const NAME: &'static str = "uniform";
    type Arguments<T: Real> = Interval<T>;

    fn arguments<T: Real>(&self) -> Interval<T> {
        interval(T::of(self.minval), T::of(self.maxval))
    }

    #[inline(always)]
    fn sample<T: Real>(interval: Interval<T>, block: [u32; 2]) -> T {
        uniform(block, interval)
    }
}

pub(super) struct Normal;

impl Distribution for Normal {
    const NAME: &'static str = "normal";
    type Arguments<T: Real> = Interval<T>;

    fn arguments<T: Real>(&self) -> Interval<T> {
        signed()
    }

    #[inline(always)]
    fn sample<T: Real>(interval: Interval<T>, block: [u32; 2]) -> T {
        quantile(uniform(block, interval))
    }
}

pub(super) struct TruncatedNormal {
    pub(super) lower: f64,
    pub(super) upper: f64,
}

impl Distribution for TruncatedNormal {
    const NAME: &'static str = "truncated_normal";
    /// The interval of the underlying uniform samples, and the outermost values that can be drawn: the bounds are
    /// excluded, except a bound of 0.
    type Arguments<T: Real> = (Interval<T>, [T; 2]);

    fn arguments<T: Real>(&self) -> (Interval<T>, [T; 2]) {
        let [lower, upper] = [T::of(self.lower), T::of(self.upper)];
        let images = [lower, upper].map(|bound| bound.over_sqrt_2().erf());
        (interval(images[0], images[1]), [lower.above().flushed(), upper.below().flushed()])
    }

    #[inline(always)]
    fn sample<T: Real>((interval, [low, high]): (Interval<T>, [T; 2]), block: [u32; 2]) -> T {
        quantile(uniform(block, interval)).at_least(low).at_most(high)
    }
}

pub(super) struct Gumbel;

impl Distribution for Gumbel {
    const NAME: &'static str = "gumbel";
    type Arguments<T: Real> = ();

    fn arguments<T: Real>(&self) {}

    #[inline(always)]
    fn sample<T: Real>((): (), block: [u32; 2]) -> T {
        -(-positive::<T>(block).log()).log()
    }
}

pub(super) struct Exponential;

impl Distribution for Exponential {
    const NAME: &'static str = "exponential";
    type Arguments<T: Real> = ();

    fn arguments<T: Real>(&self) {}

    #[inline(always)]
    fn sample<T: Real>((): (), block: [u32; 2]) -> T {
        -(-T::unit(block)).log1p()
    }
}

pub(super) struct Laplace;

impl Distribution for Laplace {
    const NAME: &'static str = "laplace";
    type Arguments<T: Real> = Interval<T>;

    fn arguments<T: Real>(&self) -> Interval<T> {
        signed()
    }

    #[inline(always)]
    fn sample<T: Real>(interval: Interval<T>, block: [u32; 2]) -> T {
        let u = uniform(block, interval);
        // sign(u) * log(1 - |u|)
        let negative = u.widen() < T::zero().widen();
        let log = (if negative { u } else { -u }).log1p();
        if negative { -log } else { log }
    }
}

pub(super) struct Logistic;

impl Distribution for Logistic {
    const NAME: &'static str = "logistic";
    type Arguments<T: Real> = ();

    fn arguments<T: Real>(&self) {}

    #[inline(always)]
    fn sample<T: Real>((): (), block: [u32; 2]) -> T {
        let u = positive::<T>(block);
        T::narrow(u.log().widen() - (-u).log1p().widen())
    }
}

pub(super) struct Cauchy;

impl Distribution for Cauchy {
    const NAME: &'static str = "cauchy";
    type Arguments<T: Real> = Interval<T>;

    fn arguments<T: Real>(&self) -> Interval<T> {
        interval(T::EPSILON, T::one())
    }

    #[inline(always)]
    fn sample<T: Real>(interval: Interval<T>, block: [u32; 2]) -> T {
        let u = uniform(block, interval);
        (T::of(PI) * (u - T::of(0.5))).tan()
    }
}
