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

use candle_core::Tensor;
use treex_core::{Leaves, Result};

use crate::engine::{Factor, Number, Rule, Terms, factor_on_device, sum};
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

/// A sum that is 0 where all elements are finite, and NaN otherwise.
struct NotFinite;

impl Terms<1> for NotFinite {
    #[inline(always)]
    fn terms<N: Number>(&self, u: N, _: N) -> [N; 1] {
        [u * 0.]
    }
}

/// 1 for a sum that is 0, otherwise 0.
impl Factor<1> for NotFinite {
    fn factor<N: Number>(&self, [sum]: [N; 1]) -> N {
        sum.abs().if_at_most(N::constant(0.), N::constant(1.), N::constant(0.))
    }
}

/// Whether every element of every leaf is finite.
pub(crate) fn is_finite(updates: &Leaves) -> Result<bool> {
    Ok(sum(NotFinite, updates, updates)?.total(0) == 0.)
}

/// [`is_finite`] as an `F64` number that stays on the device: 1 or 0.
pub(crate) fn is_finite_on_device(updates: &Leaves) -> Result<Tensor> {
    factor_on_device(&NotFinite, NotFinite, updates)
}

/// A copy of each parameter, in the compute type, for a state to keep.
pub(crate) fn copied(params: &Leaves) -> Result<Leaves> {
    params.apply(|param| Ok(param.to_dtype(wide(param.dtype()))?.copy()?))
}

/// Parameters kept by a state, in the element types of the model's.
pub(crate) fn in_place_of(params: &Leaves, kept: &Leaves) -> Result<Leaves> {
    params.combine(kept, |param, kept| Ok(kept.detach().to_dtype(param.dtype())?))
}
