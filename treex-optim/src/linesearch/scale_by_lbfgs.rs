//! L-BFGS, the limited-memory method of Broyden, Fletcher, Goldfarb and Shanno.

use candle_core::{DType, Device, Tensor};
use treex_core::size::check_size;
use treex_core::{Error, Leaf, Leaves, OptState, Result, TreeObject};

use super::{add_scaled, vdot};
use crate::combinators::copied;
use crate::engine::Updates;
use crate::numerics::{wide, zeros_like};
use crate::scalar::Count;
use crate::transfer::to_vec_f64;
use crate::transform::builder;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_lbfgs`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByLbfgsState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The parameters before the last step: their shapes, f32 (f64 for f64 parameters).
    pub params: Leaves,
    /// The incoming updates of the last step: as `params`.
    pub updates: Leaves,
    /// The stored differences of parameters, along a leading axis.
    pub diff_params_memory: Leaves,
    /// The stored differences of updates, likewise.
    pub diff_updates_memory: Leaves,
    /// One over the inner products of both: an f64 for each.
    pub weights_memory: Leaf<OptState>,
}

/// See [`scale_by_lbfgs`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByLbfgs {
    pub(crate) memory_size: usize,
    pub(crate) scale_init_precond: bool,
}

/// Multiplies the updates by an approximation `P` of the inverse Hessian of the loss. It is not stored,
/// but applied from the last `memory_size` (10) differences of parameters, `s`, and of updates, `y`, from
/// the oldest to the newest:
///
/// ```text
/// P <- V^T P V + rho s s^T,   V = I - rho y s^T,   rho = 1 / <s, y>    (0 if <s, y> = 0)
/// ```
///
/// beginning with `gamma I`, where `gamma = <s, y> / <y, y>` of the newest pair, and `min(1, 1 / norm(g))` at
/// the first step; 1 without `scale_init_precond`. The sums go over all leaves. A leaf without a
/// gradient is not part of the differences of that step.
///
/// Nocedal and Wright, *Numerical optimization*, 1999, algorithm 7.4; Liu and Nocedal, [On the limited memory
/// BFGS method](https://doi.org/10.1007/BF01589116), 1989.
#[must_use]
pub fn scale_by_lbfgs() -> ScaleByLbfgs {
    ScaleByLbfgs { memory_size: 10, scale_init_precond: true }
}

builder!(ScaleByLbfgs {
    /// The number of stored differences.
    memory_size: usize,
    /// Whether the initial approximation is a multiple of the identity that fits the newest difference.
    scale_init_precond: bool,
});

impl ScaleByLbfgs {
    fn stacked(&self, params: &Leaves) -> Result<Leaves> {
        params.apply(|param| {
            let dims = [&[self.memory_size], param.dims()].concat();
            check_size(&dims.as_slice().into(), wide(param.dtype()))?;
            Ok(Tensor::zeros(dims, wide(param.dtype()), param.device())?)
        })
    }

    fn precondition(
        &self,
        mut updates: Leaves,
        state: &mut ScaleByLbfgsState,
        params: &Leaves,
    ) -> Result<Leaves> {
        let count = state.count.get()?;
        state.count.advance()?;
        let slot = |back: usize| (count as usize + self.memory_size - back) % self.memory_size;
        updates = updates.apply(|update| Ok(update.to_dtype(wide(update.dtype()))?))?;
        let mut weights = to_vec_f64(&state.weights_memory.get()?)?;
        let mut gamma = 1.;
        if count == 0 {
            let norm = vdot(&updates, &updates)?.sqrt();
            gamma = f64::min(1., 1. / norm);
        } else {
            let differ = |new: &Leaves, old: &Leaves| {
                new.combine(old, |new, old| Ok((new.to_dtype(old.dtype())? - old)?))
            };
            let (s, y) = (differ(params, &state.params)?, differ(&updates, &state.updates)?);
            let (sy, yy) = (vdot(&s, &y)?, vdot(&y, &y)?);
            remember(&mut state.diff_params_memory, slot(1), &s)?;
            remember(&mut state.diff_updates_memory, slot(1), &y)?;
            weights[slot(1)] = if sy == 0. { 0. } else { 1. / sy };
            state.weights_memory.set(Tensor::new(weights.as_slice(), &Device::Cpu)?)?;
            if yy > 0. {
                gamma = sy / yy;
            }
        }
        state.params.store(&copied(params)?)?;
        state.updates.store(&updates)?;
        if !self.scale_init_precond {
            gamma = 1.;
        }

        // From the newest to the oldest, and back. Empty slots have no effect.
        let known = self.memory_size.min(usize::try_from(count).unwrap_or(usize::MAX));
        let mut alphas = Vec::with_capacity(known);
        let newest_first: Vec<_> = (1..=known).map(slot).collect();
        for &slot in &newest_first {
            let alpha = weights[slot] * vdot(&recall(&state.diff_params_memory, slot)?, &updates)?;
            updates =
                add_scaled(&updates, -alpha, &at(&recall(&state.diff_updates_memory, slot)?, &updates)?)?;
            alphas.push(alpha);
        }
        updates = updates.apply(|update| Ok((update * gamma)?))?;
        for (&slot, alpha) in newest_first.iter().zip(alphas).rev() {
            let beta = weights[slot] * vdot(&recall(&state.diff_updates_memory, slot)?, &updates)?;
            updates = add_scaled(
                &updates,
                alpha - beta,
                &at(&recall(&state.diff_params_memory, slot)?, &updates)?,
            )?;
        }
        Ok(updates)
    }
}

/// The leaves at the positions of `like`.
fn at(leaves: &Leaves, like: &Leaves) -> Result<Leaves> {
    leaves.rebuild(|index| Ok(leaves.get(index).filter(|_| like.get(index).is_some()).cloned()))
}

/// The leaves of a slot.
fn recall(memory: &Leaves, slot: usize) -> Result<Leaves> {
    memory.apply(|leaf| Ok(leaf.get(slot)?))
}

/// Writes leaves into a slot, zeros for missing ones.
fn remember(memory: &mut Leaves, slot: usize, leaves: &Leaves) -> Result<()> {
    let next = memory.rebuild(|index| {
        let Some(old) = memory.get(index) else { return Ok(None) };
        let leaf = match leaves.get(index) {
            Some(leaf) => leaf.unsqueeze(0)?,
            None => old.narrow(0, slot, 1)?.zeros_like()?,
        };
        Ok(Some(old.slice_scatter0(&leaf, slot)?))
    })?;
    memory.store(&next)
}

impl GradientTransformation for ScaleByLbfgs {
    type State = ScaleByLbfgsState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        if self.memory_size < 1 {
            return Err(Error::argument("`memory_size` is too small").expected("1 or more").found(0));
        }
        check_size(&self.memory_size.into(), DType::F64)?;
        Ok(ScaleByLbfgsState {
            count: Count::zero()?,
            params: zeros_like(params)?,
            updates: zeros_like(params)?,
            diff_params_memory: self.stacked(params)?,
            diff_updates_memory: self.stacked(params)?,
            weights_memory: Leaf::new(Tensor::new(vec![0f64; self.memory_size], &Device::Cpu)?)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        Ok(updates.tensors(move |updates, params| self.precondition(updates, state, params)))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}
