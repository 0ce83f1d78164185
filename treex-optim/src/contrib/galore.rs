//! GaLore: gradients projected to a low rank.

use candle_core::Tensor;
use treex_core::{Error, LeafRef, Leaves, Result, TreeObject};

use super::newton_schulz::{SVD_ITERATIONS, beside, to_matrix};
use crate::chain::{Chain, chain};
use crate::engine::Updates;
use crate::numerics::{check_finite, wide};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_adam::{ScaleByAdam, scale_by_adam};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transformation::{GradientTransformation, Member, no_average_inside};

/// The state of [`scale_by_galore`].
#[derive(Clone, Debug, TreeObject)]
pub struct GaloreState<S> {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The projector of each matrix, `[longer side, rank]`; empty for other leaves.
    pub projector: Leaves,
    /// The state of the base transformation, over the projections.
    pub base_optimizer_state: S,
}

/// See [`scale_by_galore`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByGalore<T> {
    rank: usize,
    update_proj_gap: u64,
    scale: f64,
    base: T,
}

/// Runs a base transformation, [`scale_by_adam`] by default, on the gradients of matrices projected to their
/// leading singular vectors, so that its state takes `rank / side` of the memory:
///
/// ```text
/// P = the first rank left singular vectors of g, every update_proj_gap (200) steps
/// u = scale * P base(P^T g)                with rows >= columns; otherwise on the other side
/// ```
///
/// A singular vector keeps its sign from one projector to the next, so that moments keep theirs; in Optax it is that
/// of LAPACK. The base transformation gets the gradients of other leaves unchanged. It does not see the parameters, so
/// it must not depend on them. The decomposition is computed in f64 on the CPU; in Optax in f32.
///
/// Zhao et al., [GaLore: memory-efficient LLM training by gradient low-rank
/// projection](https://arxiv.org/abs/2403.03507), 2024.
#[must_use]
pub fn scale_by_galore(rank: usize) -> ScaleByGalore<ScaleByAdam> {
    ScaleByGalore { rank, update_proj_gap: 200, scale: 1., base: scale_by_adam() }
}

impl<T> ScaleByGalore<T> {
    /// The number of steps between new projectors.
    #[must_use]
    pub fn update_proj_gap(self, update_proj_gap: u64) -> Self {
        Self { update_proj_gap, ..self }
    }

    /// A factor on the updates of matrices.
    #[must_use]
    pub fn scale(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// Replaces the transformation of the projections.
    #[must_use]
    pub fn base<U: GradientTransformation>(self, base: U) -> ScaleByGalore<U> {
        let Self { rank, update_proj_gap, scale, .. } = self;
        ScaleByGalore { rank, update_proj_gap, scale, base }
    }

    /// The leading singular vectors of the longer side, or the previous projector if the decomposition fails.
    fn projector(&self, grad: &Tensor, before: &Tensor) -> Result<Tensor> {
        let matrix = to_matrix(grad)?;
        let tall = matrix.nrows() >= matrix.ncols();
        let matrix = if tall { matrix } else { matrix.transpose() };
        if matrix.iter().any(|value| !value.is_finite()) {
            return Ok(before.clone());
        }
        let vectors = matrix.try_svd(true, false, f64::EPSILON, SVD_ITERATIONS).and_then(|svd| svd.u);
        match vectors {
            Some(vectors) => {
                aligned(&beside(&vectors.columns(0, before.dims2()?.1).into_owned(), before)?, before)
            }
            None => Ok(before.clone()),
        }
    }
}

/// The columns of a projector, each with the sign by which it is nearer to that of the previous one: a
/// decomposition leaves the sign open, and the moments of the base transformation have that of `before`.
fn aligned(projector: &Tensor, before: &Tensor) -> Result<Tensor> {
    let products = (projector * before)?.sum_keepdim(0)?;
    let is_turned = products.lt(&products.zeros_like()?)?;
    let signs = is_turned.where_cond(&products.ones_like()?.neg()?, &products.ones_like()?)?;
    Ok(projector.broadcast_mul(&signs)?)
}

/// `P^T g`, or `g P` for a matrix with more columns than rows.
fn project(grad: &Tensor, projector: &Tensor) -> Result<Tensor> {
    let grad = grad.to_dtype(projector.dtype())?;
    let (rows, columns) = grad.dims2()?;
    Ok(if rows >= columns { projector.t()?.matmul(&grad)? } else { grad.matmul(projector)? })
}

/// The inverse of [`project`].
fn unproject(update: &Tensor, projector: &Tensor, like: &Tensor) -> Result<Tensor> {
    let (rows, columns) = like.dims2()?;
    let update = update.to_dtype(projector.dtype())?;
    Ok(if rows >= columns { projector.matmul(&update)? } else { update.matmul(&projector.t()?)? })
}

impl<T: GradientTransformation> GradientTransformation for ScaleByGalore<T> {
    type State = GaloreState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_finite("scale", self.scale)?;
        if self.rank == 0 || self.update_proj_gap == 0 {
            return Err(Error::argument("`rank` or `update_proj_gap` of GaLore is too small")
                .expected("1 or more")
                .found(0));
        }
        let projector = params.rebuild(|index| {
            let is_matrix = |param: &&Tensor| param.rank() == 2 && param.elem_count() > 0;
            let Some(param) = params.get(index).filter(is_matrix) else { return Ok(None) };
            let (rows, columns) = param.dims2()?;
            let shape = (rows.max(columns), self.rank.min(rows).min(columns));
            Ok(Some(Tensor::zeros(shape, wide(param.dtype()), param.device())?))
        })?;
        let low = params.rebuild(|index| match (params.get(index), projector.get(index)) {
            (Some(param), Some(projector)) => project(param, projector).map(Some),
            (param, _) => Ok(param.cloned()),
        })?;
        Ok(GaloreState { count: Count::zero()?, base_optimizer_state: self.base.init(&low)?, projector })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let renew = state.count.get()? % self.update_proj_gap == 0;
        state.count.advance()?;
        let extra = updates.extra();
        Ok(updates.tensors(move |grads, _| {
            if renew {
                let next = grads.combine(&state.projector, |grad, before| self.projector(grad, before))?;
                state.projector.store(&next)?;
            }
            let projector = &state.projector;
            let low = grads.rebuild(|index| match (grads.get(index), projector.get(index)) {
                (Some(grad), Some(projector)) => project(grad, projector).map(Some),
                (grad, _) => Ok(grad.cloned()),
            })?;
            let low = self
                .base
                .update(
                    Updates::new(low.clone(), low.clone()).with_extra(extra),
                    &mut state.base_optimizer_state,
                )?
                .compute()?;
            low.rebuild(|index| match (low.get(index), projector.get(index), grads.get(index)) {
                (Some(update), Some(projector), Some(grad)) => {
                    Ok(Some((unproject(update, projector, grad)? * self.scale)?))
                }
                (update, _, _) => Ok(update.cloned()),
            })
        }))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.base, &state.base_optimizer_state)]
    }

    fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        let scale = if leaf.rank() == Some(2) { self.scale } else { 1. };
        Ok(self.base.step_size(&state.base_optimizer_state, leaf)?.then(StepSize::times(scale)))
    }

    /// An average that the base transformation keeps is of projections.
    fn eval_params(&self, state: &Self::State, _params: &Leaves) -> Result<Option<Leaves>> {
        match self.base.eval_params(&state.base_optimizer_state, &state.projector)? {
            Some(_) => Err(no_average_inside("scale_by_galore")),
            None => Ok(None),
        }
    }
}

/// The type of [`galore`].
pub type Galore = Chain<(ScaleByGalore<ScaleByAdam>, AddDecayedWeights, ScaleByLearningRate)>;

/// Adam on projected gradients with decoupled weight decay, none by default: [`scale_by_galore`] with rank
/// 128.
#[must_use]
pub fn galore(learning_rate: impl Into<Schedule>) -> Galore {
    chain((scale_by_galore(128), add_decayed_weights(0.), scale_by_learning_rate(learning_rate)))
}

options!(Galore:
    0 ScaleByGalore { update_proj_gap: u64, scale: f64 }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(Galore: 1);

impl Galore {
    /// The largest number of singular vectors of a projection.
    #[must_use]
    pub fn rank(mut self, rank: usize) -> Self {
        self.0.0.rank = rank;
        self
    }
}
