//! Optimizers that Optax keeps in `contrib`: newer, or for special purposes.
//!
//! What adapts its step to sums over all leaves runs as a function of tensors: first the moments in one pass,
//! then the sums, then the step.

pub(crate) mod acprop;
pub(crate) mod ademamix;
pub(crate) mod adopt;
pub(crate) mod cocob;
pub(crate) mod dadapt_adamw;
pub(crate) mod dog;
pub(crate) mod dowg;
pub(crate) mod galore;
pub(crate) mod madgrad;
pub(crate) mod mechanize;
pub(crate) mod momo;
pub(crate) mod momo_adam;
pub(crate) mod muon;
pub(crate) mod newton_schulz;
pub(crate) mod normalize;
pub(crate) mod prodigy;
pub(crate) mod reduce_on_plateau;
pub(crate) mod sam;
pub(crate) mod schedule_free;
pub(crate) mod simplified_ademamix;

use treex_core::{Leaves, Result};

use crate::engine::{Number, Rule, Terms, sum};

/// The sum of all elements.
pub(crate) fn total(leaves: &Leaves) -> Result<f64> {
    struct Elements;

    impl Terms<1> for Elements {
        #[inline(always)]
        fn terms<N: Number>(&self, u: N, _: N) -> [N; 1] {
            [u]
        }
    }

    Ok(sum(Elements, leaves, leaves)?.total(0))
}

/// The sum of the magnitudes of the elements, at the positions that `like` has.
pub(crate) fn l1_norm(leaves: &Leaves, like: &Leaves) -> Result<f64> {
    struct Magnitudes;

    impl Terms<1> for Magnitudes {
        #[inline(always)]
        fn terms<N: Number>(&self, u: N, _: N) -> [N; 1] {
            [u.abs()]
        }
    }

    Ok(sum(Magnitudes, leaves, like)?.total(0))
}

/// The square of the distance between two trees, at the positions that both have.
pub(crate) fn squared_distance(a: &Leaves, b: &Leaves) -> Result<f64> {
    struct Distance;

    impl Terms<1> for Distance {
        #[inline(always)]
        fn terms<N: Number>(&self, u: N, p: N) -> [N; 1] {
            [(u - p).sqr()]
        }
    }

    Ok(sum(Distance, a, b)?.total(0))
}

/// The step of the methods that estimate the distance to go: `u = -rate * m / (sqrt(v) + eps) - decay * p`.
pub(crate) struct Descend {
    pub(crate) rate: f64,
    pub(crate) eps: f64,
    pub(crate) decay: f64,
}

impl Rule<2> for Descend {
    #[inline(always)]
    fn apply<N: Number>(&self, _: N, p: N, [m, v]: [N; 2]) -> (N, [N; 2]) {
        let u = -(m.clone() * self.rate / (v.clone().sqrt() + self.eps)) - p * self.decay;
        (u, [m, v])
    }
}
