//! The optimizers of Optax's `contrib`: newer, or for special purposes.
//!
//! An optimizer that adapts its step to sums over all leaves runs as a function of tensors: the moments in
//! one pass, then the sums, then the step.

pub(crate) mod acprop;
pub(crate) mod ademamix;
pub(crate) mod adopt;
pub(crate) mod cocob;
pub(crate) mod dadapt_adamw;
pub(crate) mod dimension_numbers;
mod distance_estimate;
pub(crate) mod dog;
pub(crate) mod dowg;
pub(crate) mod dpsgd;
pub(crate) mod galore;
pub(crate) mod gauss_newton_bartlett;
pub(crate) mod hutchinson;
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
pub(crate) mod sophia;

use treex_core::{Leaves, Result};

use crate::engine::{Number, Terms, sum};

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
