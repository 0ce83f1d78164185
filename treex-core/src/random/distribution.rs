//! The continuous distributions: how each makes a sample of the random words at its index.

use std::f64::consts::{PI, SQRT_2};

use super::real::Real;

/// A distribution that can be drawn in every [`Real`] type.
pub(super) trait Distribution {
    /// The name of its sampler.
    const NAME: &'static str;

    /// Its arguments in the type `T`, and the sample of some words.
    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T;
}

fn uniform<T: Real>(block: [u32; 2], minval: T, maxval: T) -> T {
    T::unit(block).scale(maxval - minval, minval).at_least(minval)
}

/// Uniform on [tiny, 1), where there are logarithms to take. XLA adds -1 + tiny, which is -1, to the number
/// in [1, 2), so that tiny takes the place of 0 and is not added to the rest.
fn positive<T: Real>(block: [u32; 2]) -> T {
    T::unit(block).at_least(T::TINY)
}

/// sqrt(2) * erf_inv(u): normal for u uniform on (-1, 1).
fn quantile<T: Real>(u: T) -> T {
    T::of(SQRT_2) * u.erf_inv()
}

pub(super) struct Uniform {
    pub(super) minval: f64,
    pub(super) maxval: f64,
}

impl Distribution for Uniform {
    const NAME: &'static str = "uniform";

    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T {
        let (minval, maxval) = (T::of(self.minval), T::of(self.maxval));
        move |block| uniform(block, minval, maxval)
    }
}

pub(super) struct Normal;

impl Distribution for Normal {
    const NAME: &'static str = "normal";

    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T {
        let low = (-T::one()).above();
        move |block| quantile(uniform(block, low, T::one()))
    }
}

pub(super) struct TruncatedNormal {
    pub(super) lower: f64,
    pub(super) upper: f64,
}

impl Distribution for TruncatedNormal {
    const NAME: &'static str = "truncated_normal";

    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T {
        let (lower, upper) = (T::of(self.lower), T::of(self.upper));
        let images = [lower, upper].map(|bound| bound.over_sqrt_2().erf());
        // The innermost values that may come out: the bounds themselves may not.
        let (low, high) = (lower.above(), upper.below());
        move |block| quantile(uniform(block, images[0], images[1])).at_least(low).at_most(high)
    }
}

pub(super) struct Gumbel;

impl Distribution for Gumbel {
    const NAME: &'static str = "gumbel";

    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T {
        |block| -(-positive::<T>(block).log()).log()
    }
}

pub(super) struct Exponential;

impl Distribution for Exponential {
    const NAME: &'static str = "exponential";

    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T {
        |block| -(-T::unit(block)).log1p()
    }
}

pub(super) struct Laplace;

impl Distribution for Laplace {
    const NAME: &'static str = "laplace";

    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T {
        let low = (-T::one()).above();
        move |block| {
            let u = uniform(block, low, T::one());
            // sign(u) * log(1 - |u|)
            if u < T::zero() { -u.log1p() } else { (-u).log1p() }
        }
    }
}

pub(super) struct Logistic;

impl Distribution for Logistic {
    const NAME: &'static str = "logistic";

    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T {
        |block| {
            let u = positive::<T>(block);
            u.log() - (-u).log1p()
        }
    }
}

pub(super) struct Cauchy;

impl Distribution for Cauchy {
    const NAME: &'static str = "cauchy";

    fn sampler<T: Real>(&self) -> impl Fn([u32; 2]) -> T {
        let (pi, half) = (T::of(PI), T::of(0.5));
        move |block| (pi * (uniform(block, T::EPSILON, T::one()) - half)).tan()
    }
}
