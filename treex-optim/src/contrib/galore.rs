//! GaLore: gradients projected to a low rank.

use candle_core::Tensor;
use treex_core::{Error, Filter, LeafRef, Leaves, Result, TreeObject};

use super::dimension_numbers::{DimensionNumbers, Matrices, WeightDimensionNumbers};
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
#[derive(Clone, Debug)]
pub struct ScaleByGalore<T> {
    rank: usize,
    update_proj_gap: u64,
    scale: f64,
    base: T,
    dimensions: WeightDimensionNumbers,
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
/// of LAPACK. The base transformation gets the gradients of other leaves unchanged; leaves of more than two axes are
/// matrices by [`weight_dimension_numbers`](ScaleByGalore::weight_dimension_numbers). It does not see the parameters, so
/// it must not depend on them. The decomposition is computed in f64 on the CPU; in Optax in f32.
///
/// Zhao et al., [GaLore: memory-efficient LLM training by gradient low-rank
/// projection](https://arxiv.org/abs/2403.03507), 2024.
#[must_use]
pub fn scale_by_galore(rank: usize) -> ScaleByGalore<ScaleByAdam> {
    ScaleByGalore {
        rank,
        update_proj_gap: 200,
        scale: 1.,
        base: scale_by_adam(),
        dimensions: WeightDimensionNumbers::default(),
    }
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
        let Self { rank, update_proj_gap, scale, dimensions, .. } = self;
        ScaleByGalore { rank, update_proj_gap, scale, base, dimensions }
    }

    /// The rows and columns of the leaves that `filter` selects, unless an earlier one did; together all of their axes.
    #[must_use]
    pub fn weight_dimension_numbers(
        self,
        filter: impl Filter + Send + Sync + 'static,
        numbers: DimensionNumbers,
    ) -> Self {
        Self { dimensions: self.dimensions.and(filter, numbers), ..self }
    }

    /// The matrix that each leaf is; none for those that are not projected.
    fn matrices(&self, leaves: &Leaves) -> Result<Vec<Option<Matrices>>> {
        let matrices =
            self.dimensions.matrices(leaves, |rank| (rank == 2).then(|| DimensionNumbers::last_axis(2)))?;
        for (leaf, matrices) in leaves.iter().zip(&matrices) {
            if matrices.as_ref().is_some_and(|matrices| matrices.batch != 1) {
                return Err(Error::argument("GaLore projects leaves of one matrix")
                    .at(leaf.segments())
                    .expected("dimension numbers with all axes")
                    .found(format!("{:?}", self.dimensions.of(&leaf)))
                    .remedy("name each axis as one of rows or columns"));
            }
        }
        Ok(matrices)
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
fn unproject(update: &Tensor, projector: &Tensor, layout: &Matrices) -> Result<Tensor> {
    let update = update.to_dtype(projector.dtype())?;
    Ok(if layout.rows >= layout.columns {
        projector.matmul(&update)?
    } else {
        update.matmul(&projector.t()?)?
    })
}

/// The matrices of leaves; nothing for a leaf that is none, or has no elements.
fn as_matrices(leaves: &Leaves, layouts: &[Option<Matrices>]) -> Result<Leaves> {
    leaves.rebuild(|index| match (leaves.get(index), &layouts[index]) {
        (Some(leaf), Some(layout)) if leaf.elem_count() > 0 => layout.matrix(leaf).map(Some),
        _ => Ok(None),
    })
}

/// The projections of matrices, and the other leaves.
fn low_rank(leaves: &Leaves, matrices: &Leaves, projector: &Leaves) -> Result<Leaves> {
    leaves.rebuild(|index| match (matrices.get(index), projector.get(index)) {
        (Some(matrix), Some(projector)) => project(matrix, projector).map(Some),
        _ => Ok(leaves.get(index).cloned()),
    })
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
        self.dimensions.check(params)?;
        let matrices = as_matrices(params, &self.matrices(params)?)?;
        let projector = matrices.rebuild(|index| {
            let Some(matrix) = matrices.get(index) else { return Ok(None) };
            let (rows, columns) = matrix.dims2()?;
            let shape = (rows.max(columns), self.rank.min(rows).min(columns));
            Ok(Some(Tensor::zeros(shape, wide(matrix.dtype()), matrix.device())?))
        })?;
        let low = low_rank(params, &matrices, &projector)?;
        Ok(GaloreState { count: Count::zero()?, base_optimizer_state: self.base.init(&low)?, projector })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let renew = state.count.get()? % self.update_proj_gap == 0;
        state.count.advance()?;
        let extra = updates.extra();
        Ok(updates.tensors(move |grads, _| {
            let layouts = self.matrices(&grads)?;
            let matrices = as_matrices(&grads, &layouts)?;
            if renew {
                let next = matrices.combine(&state.projector, |grad, before| self.projector(grad, before))?;
                state.projector.store(&next)?;
            }
            let projector = &state.projector;
            let low = low_rank(&grads, &matrices, projector)?;
            let low = self
                .base
                .update(
                    Updates::new(low.clone(), low.clone()).with_extra(extra),
                    &mut state.base_optimizer_state,
                )?
                .compute()?;
            low.rebuild(|index| match (low.get(index), projector.get(index), &layouts[index]) {
                (Some(update), Some(projector), Some(layout)) => {
                    layout.join(&(unproject(update, projector, layout)? * self.scale)?).map(Some)
                }
                (update, _, _) => Ok(update.cloned()),
            })
        }))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.base, &state.base_optimizer_state)]
    }

    fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        let is_projected = leaf.rank() == Some(2) || self.dimensions.of(leaf).is_some();
        let scale = if is_projected { self.scale } else { 1. };
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
pub type Galore<T = ScaleByAdam> = Chain<(ScaleByGalore<T>, AddDecayedWeights, ScaleByLearningRate)>;

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
    /// [`ScaleByGalore::base`]
    #[must_use]
    pub fn base<U: GradientTransformation>(self, base: U) -> Galore<U> {
        let (galore, decay, rate) = self.0;
        chain((galore.base(base), decay, rate))
    }

    /// The largest number of singular vectors of a projection.
    #[must_use]
    pub fn rank(mut self, rank: usize) -> Self {
        self.0.0.rank = rank;
        self
    }
}

impl<T> Galore<T> {
    /// [`ScaleByGalore::weight_dimension_numbers`]
    #[must_use]
    pub fn weight_dimension_numbers(
        mut self,
        filter: impl Filter + Send + Sync + 'static,
        numbers: DimensionNumbers,
    ) -> Self {
        self.0.0 = self.0.0.weight_dimension_numbers(filter, numbers);
        self
    }
}
