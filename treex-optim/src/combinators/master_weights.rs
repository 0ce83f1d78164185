//! Training in half precision.

use candle_core::DType;
use treex_core::{Leaves, Result, TreeObject, by};

use super::{copied, in_place_of};
use crate::boxed::Member;
use crate::engine::{Number, Rule, Updates};
use crate::transformation::GradientTransformation;

/// The state of [`master_weights`].
#[derive(Clone, Debug, TreeObject)]
pub struct MasterWeightsState<S> {
    /// The parameters of half precision, in f32; nothing for the others.
    pub master: Leaves,
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
/// So an update that is smaller than the distance to the next number of half precision is not lost.
/// Parameters of other types are trained as they are. With it a model of `bf16` is trained as well as one of
/// `f32` with gradients of `bf16`; for the range of `f16` there is
/// [`DynamicLossScale`](crate::DynamicLossScale).
///
/// Micikevicius and others, [Mixed precision training](https://arxiv.org/abs/1710.03740), 2017.
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

impl<T: GradientTransformation> GradientTransformation for MasterWeights<T> {
    type State = MasterWeightsState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        let master = copied(&params.clone().select(&by(|leaf| leaf.dtype().is_some_and(is_half))))?;
        Ok(MasterWeightsState { inner_state: self.inner.init(&widened(params, &master)?)?, master })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let MasterWeightsState { master, inner_state } = state;
        // Gone before the masters are written.
        let before = master.clone();
        let has_master: Vec<_> = (0..before.len()).map(|index| before.get(index).is_some()).collect();
        let extra = updates.extra();
        let updates = updates.tensors(move |grads, params| {
            let updates = Updates::new(grads, widened(params, &before)?).with_extra(extra);
            self.inner.update(updates, inner_state)?.compute()
        });
        updates.masked_at(&has_master, |halves| halves.map(Round, [master]))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.inner, &state.inner_state)]
    }

    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        let own = self.inner.eval_params(&state.inner_state, &widened(params, &state.master)?)?;
        own.map(|own| in_place_of(params, &own)).transpose()
    }
}

/// The master is stepped, and the parameter goes where it is.
struct Round;

impl Rule<1> for Round {
    #[inline(always)]
    fn apply<N: Number>(&self, u: N, p: N, [master]: [N; 1]) -> (N, [N; 1]) {
        let master = master + u;
        (master.clone() - p, [master])
    }
}
