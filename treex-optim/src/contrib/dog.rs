//! Distance over gradients.

use serde::{Deserialize, Serialize};
use treex_core::{LeafRef, Leaves, Result, TreeObject};

use super::squared_distance;
use crate::chain::{Chain, chain};
use crate::combinators::copied;
use crate::engine::{Squares, Updates, sum};
use crate::linesearch::vdot;
use crate::numerics::{at_least, check_not_negative};
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::builder;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_dog`].
#[derive(Clone, Debug, TreeObject)]
pub struct DogState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The initial parameters: their shapes, f32 (f64 for f64 parameters).
    pub init_params: Leaves,
    /// The largest distance from them: a scalar f64.
    pub max_dist: Scalar,
    /// The sum of the squares of all gradients: a scalar f64.
    pub sum_sq_norm_grads: Scalar,
}

/// The first step of [`dog`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitStep {
    /// This initial distance.
    Distance(f64),
    /// This initial distance, relative to one plus the norm of the parameters.
    Heuristic(f64),
    /// This learning rate.
    LearningRate(f64),
}

/// See [`scale_by_dog`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByDog {
    init_step: InitStep,
    eps: f64,
}

/// Scales gradients by the largest distance of the parameters from their initial values, divided by the root
/// of the sum of the squares of all gradients so far:
///
/// ```text
/// d = max(d, norm(p0 - p))
/// G = G + norm(g)^2
/// u = d / sqrt(G + eps) * g
/// ```
///
/// over all leaves, with `eps = 1e-8` and a first distance of `1e-6 * (1 + norm(p))`.
///
/// Ivgi, Hinder and Carmon, [DoG is SGD's best friend](https://arxiv.org/abs/2302.12022), 2023.
#[must_use]
pub fn scale_by_dog() -> ScaleByDog {
    ScaleByDog { init_step: InitStep::Heuristic(1e-6), eps: 1e-8 }
}

builder!(ScaleByDog {
    /// The first step.
    init_step: InitStep,
    /// Added inside the square root.
    eps: f64,
});

impl GradientTransformation for ScaleByDog {
    type State = DogState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_not_negative("eps", self.eps)?;
        let max_dist = match self.init_step {
            InitStep::Distance(distance) => distance,
            InitStep::Heuristic(relative) => relative * (1. + vdot(params, params)?.sqrt()),
            InitStep::LearningRate(_) => 0.,
        };
        Ok(DogState {
            count: Count::zero()?,
            init_params: copied(params)?,
            max_dist: Scalar::new(max_dist)?,
            sum_sq_norm_grads: Scalar::new(0.)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let t = state.count.advance()?;
        Ok(updates.tensors(move |grads, params| {
            let distance = squared_distance(&state.init_params, params)?.sqrt();
            let distance = at_least(distance, state.max_dist.get()?);
            let squares = state.sum_sq_norm_grads.get()? + sum(Squares, &grads, params)?.total(0);
            state.max_dist.set(distance)?;
            state.sum_sq_norm_grads.set(squares)?;
            let rate = match self.init_step {
                InitStep::LearningRate(rate) if t == 1 => rate,
                _ => distance / (squares + self.eps).sqrt(),
            };
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

/// The type of [`dog`].
pub type Dog = Chain<(AddDecayedWeights, ScaleByDog, ScaleByLearningRate)>;

/// Gradient descent that finds its learning rate, by [`scale_by_dog`]. Use it with an average of the
/// parameters: `chain((dog(), params_ema(0.999)))`.
#[must_use]
pub fn dog() -> Dog {
    chain((add_decayed_weights(0.), scale_by_dog(), scale_by_learning_rate(1.)))
}

options!(Dog:
    0 AddDecayedWeights { weight_decay: f64 }
    1 ScaleByDog { init_step: InitStep, eps: f64 }
);

weight_decay_mask!(Dog: 0);

impl Dog {
    /// A factor on the steps, over the steps. Default: 1.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: impl Into<Schedule>) -> Self {
        self.0.2 = scale_by_learning_rate(learning_rate);
        self
    }
}
