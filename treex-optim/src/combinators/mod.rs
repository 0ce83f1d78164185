//! Transformations of transformations: for some leaves, at some steps, with other hyperparameters.
//!
//! Filters, counts and options are known while a chain records its work, so a combinator that depends on them
//! costs no pass over memory. One that depends on the values of gradients runs the inner transformation as a
//! function of tensors.

pub(crate) mod apply_if_finite;
pub(crate) mod conditionally;
pub(crate) mod flatten;
pub(crate) mod inject_hyperparams;
pub(crate) mod lookahead;
pub(crate) mod masked;
pub(crate) mod master_weights;
pub(crate) mod monitor;
pub(crate) mod multi_steps;
pub(crate) mod named_chain;
pub(crate) mod params_ema;
pub(crate) mod partition;
pub(crate) mod snapshot;

use treex_core::{Leaves, Result};

use crate::engine::{Number, Rule, Terms, sum};
use crate::numerics::wide;

/// Updates that leave parameters bit-identical: minus zero, since `-0.0 + 0.0` is `0.0`.
pub(crate) fn unchanged(updates: &Leaves) -> Result<Leaves> {
    updates.apply(|update| Ok(update.zeros_like()?.neg()?))
}

/// [`unchanged`] as a rule.
pub(crate) struct Unchanged;

impl Rule<0> for Unchanged {
    #[inline(always)]
    fn apply<N: Number>(&self, _: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
        (-N::constant(0.), [])
    }
}

/// Whether every element of every leaf is finite.
pub(crate) fn is_finite(updates: &Leaves) -> Result<bool> {
    struct NotFinite;

    impl Terms<1> for NotFinite {
        #[inline(always)]
        fn terms<N: Number>(&self, u: N, _: N) -> [N; 1] {
            // 0 or NaN.
            [u * 0.]
        }
    }

    Ok(sum(NotFinite, updates, updates)?.total(0) == 0.)
}

/// A copy of each parameter, in the compute type, for a state to keep.
pub(crate) fn copied(params: &Leaves) -> Result<Leaves> {
    params.apply(|param| Ok(param.to_dtype(wide(param.dtype()))?.copy()?))
}

/// Parameters kept by a state, in the element types of the model's.
pub(crate) fn in_place_of(params: &Leaves, kept: &Leaves) -> Result<Leaves> {
    params.combine(kept, |param, kept| Ok(kept.detach().to_dtype(param.dtype())?))
}
