//! Master weights, for training in half precision.

use candle_core::{DType, Tensor};
use treex_core::capture::plan::is_looking_ahead;
use treex_core::{Leaves, Result, TreeObject, by};

use super::{copied, in_place_of};
use crate::engine::{Number, Rule, Updates};
use crate::transformation::GradientTransformation;
use crate::transformation::Member;

/// The state of [`master_weights`].
#[derive(Clone, Debug, TreeObject)]
pub struct MasterWeightsState<S> {
    /// The half-precision parameters, in f32; empty for the others.
    pub master: Leaves,
    /// The element type of each parameter; a wrapper around this one may pass them in f32.
    #[tree(skip)]
    dtypes: Vec<Option<DType>>,
    /// The state of the inner transformation.
    pub inner_state: S,
}

/// See [`master_weights`].
#[derive(Clone, Debug, PartialEq)]
pub struct MasterWeights<T> {
    inner: T,
}

/// Trains a copy in f32 of every parameter of half precision; the model holds the copy, rounded:
///
/// ```text
/// master = master + inner(g, master)
/// p      = round(master)
/// ```
///
/// So an update smaller than half precision's spacing is not lost. An element of the model that is not its master,
/// rounded, was written since, by a checkpoint for example, and becomes the master. Parameters of other types are
/// trained directly. A `bf16` model trains as well as an `f32` model with `bf16` gradients; for the range of `f16`
/// use [`DynamicLossScale`](crate::DynamicLossScale).
///
/// Micikevicius et al., [Mixed precision training](https://arxiv.org/abs/1710.03740), 2017.
#[must_use]
pub fn master_weights<T: GradientTransformation>(inner: T) -> MasterWeights<T> {
    MasterWeights { inner }
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F16)
}

/// The parameters, with the master in place of each of half precision.
fn widened(params: &Leaves, master: &Leaves) -> Result<Leaves> {
    params.rebuild(|index| Ok(params.get(index).map(|param| master.get(index).unwrap_or(param)).cloned()))
}

impl<S> MasterWeightsState<S> {
    /// The masters of leaves that were written since the last step: the parameter where it is not the rounded
    /// master, which is kept elsewhere.
    fn written_since(&self, params: &Leaves) -> Result<Leaves> {
        params.rebuild(|index| {
            let (Some(param), Some(master)) = (params.get(index), self.master.get(index)) else {
                return Ok(None);
            };
            let Some(Some(half)) = self.dtypes.get(index) else { return Ok(None) };
            if param.elem_count() == 0 {
                return Ok(None);
            }
            let written = param.to_dtype(*half)?.ne(&master.to_dtype(*half)?)?;
            // On another device the answer would be a read-back, which costs more than to write the master again.
            let is_known = written.device().is_cpu();
            if is_known && written.flatten_all()?.max(0)?.to_scalar::<u8>()? == 0 {
                return Ok(None);
            }
            Ok(Some(written.where_cond(&param.to_dtype(master.dtype())?, master)?))
        })
    }
}

impl<T: GradientTransformation> GradientTransformation for MasterWeights<T> {
    type State = MasterWeightsState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        let master = copied(&params.clone().select(&by(|leaf| leaf.dtype().is_some_and(is_half))))?;
        let dtypes = (0..params.len()).map(|index| params.get(index).map(Tensor::dtype)).collect();
        Ok(MasterWeightsState { inner_state: self.inner.init(&widened(params, &master)?)?, dtypes, master })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        if !is_looking_ahead() {
            let newer = state.written_since(updates.params())?;
            state.master.store(&newer)?;
        }
        let MasterWeightsState { master, inner_state, .. } = state;
        // Dropped before the masters are written.
        let before = master.clone();
        let has_master: Vec<_> = (0..before.len()).map(|index| before.get(index).is_some()).collect();
        let extra = updates.extra();
        let updates = updates.inner(move |grads, params| {
            let updates = Updates::new(grads, widened(params, &before)?).with_extra(extra);
            self.inner.update(updates, inner_state)?.compute()
        });
        updates.masked_at(&has_master, |halves| halves.map(Round, [master]))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.inner, &state.inner_state)]
    }

    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        let params_now = widened(&widened(params, &state.master)?, &state.written_since(params)?)?;
        let own = self.inner.eval_params(&state.inner_state, &params_now)?;
        own.map(|own| in_place_of(params, &own)).transpose()
    }
}

/// Updates the master, and sets the parameter to it. The master is what the parameter is before it is rounded, so
/// that the two cannot differ by the rounding of a large step.
struct Round;

impl Rule<1> for Round {
    #[inline(always)]
    fn apply<N: Number>(&self, u: N, p: N, [master]: [N; 1]) -> (N, [N; 1]) {
        let step = master + u - p.clone();
        (step.clone(), [p + step])
    }
}
