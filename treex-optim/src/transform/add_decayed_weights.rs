//! Weight decay.

use treex_core::{Filter, Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::selection::Selection;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`add_decayed_weights`].
#[derive(Clone, Debug, TreeObject)]
pub struct AddDecayedWeightsState {
    /// The number of steps so far: a scalar i64; no leaf where the decay is constant.
    pub count: Option<Count>,
}

/// See [`add_decayed_weights`].
#[derive(Clone, Debug)]
pub struct AddDecayedWeights {
    weight_decay: Schedule,
    selection: Option<Selection>,
}

/// `u = g + weight_decay * p`, for the parameters that a filter selects, all of them by default.
///
/// After a rescaling this is the decoupled decay of AdamW; before it, the gradient of an L2 penalty. The
/// decay may follow a schedule of its own, read at the number of steps before this one.
#[must_use]
pub fn add_decayed_weights(weight_decay: impl Into<Schedule>) -> AddDecayedWeights {
    AddDecayedWeights { weight_decay: weight_decay.into(), selection: None }
}

impl AddDecayedWeights {
    /// The weight decay.
    #[must_use]
    pub fn weight_decay(self, weight_decay: impl Into<Schedule>) -> Self {
        Self { weight_decay: weight_decay.into(), ..self }
    }

    /// Only the parameters that `filter` selects decay: `path("**.kernel")` spares biases and scales. One that
    /// selects nothing is an error of `init`.
    #[must_use]
    pub fn mask(self, filter: impl Filter + Send + Sync + 'static) -> Self {
        Self { selection: Some(Selection::new(filter)), ..self }
    }
}

impl GradientTransformation for AddDecayedWeights {
    type State = AddDecayedWeightsState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        if let Some(selection) = &self.selection {
            selection.check(params, "the mask of the weight decay")?;
        }
        Ok(AddDecayedWeightsState { count: self.weight_decay.start("weight_decay")? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let decay = self.weight_decay.step(&mut state.count, "weight_decay")?;
        match &self.selection {
            _ if decay == 0. => Ok(updates),
            Some(selection) => updates.masked(selection, |selected| selected.map(Decay(decay), [])),
            None => updates.map(Decay(decay), []),
        }
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// `u = g + decay * p`.
struct Decay(f64);

impl Rule<0> for Decay {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, p: N, []: [N; 0]) -> (N, [N; 0]) {
        (g + p * self.0, [])
    }
}
