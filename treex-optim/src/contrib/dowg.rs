//! Distance over weighted gradients.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use super::squared_distance;
use crate::chain::{Chain, chain};
use crate::combinators::copied;
use crate::engine::{Squares, Updates, sum};
use crate::numerics::{at_least, check_not_negative};
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::builder;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_dowg`].
#[derive(Clone, Debug, TreeObject)]
pub struct DowgState {
    /// The initial parameters: their shapes, f32 (f64 for f64 parameters).
    pub init_params: Leaves,
    /// The sum of the squares of the gradients, each times the squared distance of its step: a scalar f64.
    pub weighted_sq_norm_grads: Scalar,
    /// The square of the largest distance from the start: a scalar f64.
    pub estim_sq_dist: Scalar,
}

/// See [`scale_by_dowg`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByDowg {
    init_estim_sq_dist: Option<f64>,
    eps: f64,
}

/// Scales gradients as [`scale_by_dog`](crate::scale_by_dog), but weights each gradient by the distance of
/// its step:
///
/// ```text
/// d2 = max(d2, norm(p0 - p)^2)
/// V  = V + d2 * norm(g)^2
/// u  = d2 / (sqrt(V) + eps) * g
/// ```
///
/// over all leaves, with `eps = 1e-4`, which is also the first `d2`.
///
/// Khaled, Mishchenko and Jin, [DoWG unleashed](https://arxiv.org/abs/2305.16284), 2023.
#[must_use]
pub fn scale_by_dowg() -> ScaleByDowg {
    ScaleByDowg { init_estim_sq_dist: None, eps: 1e-4 }
}

builder!(ScaleByDowg {
    /// The square of the initial distance.
    init_estim_sq_dist: f64,
    /// Added to the denominator.
    eps: f64,
});

impl GradientTransformation for ScaleByDowg {
    type State = DowgState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_not_negative("eps", self.eps)?;
        let distance = self.init_estim_sq_dist.unwrap_or(self.eps);
        check_not_negative("init_estim_sq_dist", distance)?;
        Ok(DowgState {
            init_params: copied(params)?,
            weighted_sq_norm_grads: Scalar::new(0.)?,
            estim_sq_dist: Scalar::new(distance)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        Ok(updates.tensors(move |grads, params| {
            let distance = squared_distance(&state.init_params, params)?;
            let distance = at_least(distance, state.estim_sq_dist.get()?);
            let squares =
                distance * sum(Squares, &grads, params)?.total(0) + state.weighted_sq_norm_grads.get()?;
            state.estim_sq_dist.set(distance)?;
            state.weighted_sq_norm_grads.set(squares)?;
            let rate = distance / (squares.sqrt() + self.eps);
            grads.apply(|grad| Ok((grad * rate)?))
        }))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    /// The gradient of the step decides.
    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::unknown())
    }
}

/// The type of [`dowg`].
pub type Dowg = Chain<(AddDecayedWeights, ScaleByDowg, ScaleByLearningRate)>;

/// Gradient descent that finds its learning rate, by [`scale_by_dowg`].
#[must_use]
pub fn dowg() -> Dowg {
    chain((add_decayed_weights(0.), scale_by_dowg(), scale_by_learning_rate(1.)))
}

options!(Dowg:
    0 AddDecayedWeights { weight_decay: f64 }
    1 ScaleByDowg { init_estim_sq_dist: f64, eps: f64 }
);

weight_decay_mask!(Dowg: 0);

impl Dowg {
    /// A factor on the steps, over the steps. Default: 1.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: impl Into<Schedule>) -> Self {
        self.0.2 = scale_by_learning_rate(learning_rate);
        self
    }
}
