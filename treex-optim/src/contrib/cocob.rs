//! Coin betting.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::chain::{Chain, chain};
use crate::combinators::copied;
use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_not_negative, zeros_like};
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::builder;
use crate::transform::scale_by_schedule::{ScaleBySchedule, scale_by_schedule};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_cocob`].
#[derive(Clone, Debug, TreeObject)]
pub struct CocobState {
    /// The initial parameters: their shapes, f32 (f64 for f64 parameters).
    pub init_particles: Leaves,
    /// The sum of the negative gradients: as `init_particles`.
    pub cumulative_gradients: Leaves,
    /// The largest absolute value of a gradient: as `init_particles`.
    pub scale: Leaves,
    /// The sum of the absolute values: as `init_particles`.
    pub subgradients: Leaves,
    /// The reward: as `init_particles`.
    pub reward: Leaves,
}

/// See [`scale_by_cocob`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleByCocob {
    alpha: f64,
    eps: f64,
}

/// A bet on each element's next gradient, with the wealth won so far. There is no learning rate, and it flips
/// the sign itself:
///
/// ```text
/// L = max(L, |g|)     G = G + |g|     R = max(R - g (p - p0), 0)     C = C - g
/// p = p0 + C / (L max(G + L, alpha L)) (L + R)
/// ```
///
/// with `alpha = 100` and `L = eps = 1e-8` at the start.
///
/// Orabona and Tommasi, [Training deep networks without learning rates through coin
/// betting](https://arxiv.org/abs/1705.07795), 2017.
#[must_use]
pub fn scale_by_cocob() -> ScaleByCocob {
    ScaleByCocob { alpha: 100., eps: 1e-8 }
}

builder!(ScaleByCocob {
    /// The damping of the first bets.
    alpha: f64,
    /// The initial largest absolute value.
    eps: f64,
});

impl GradientTransformation for ScaleByCocob {
    type State = CocobState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_not_negative("alpha", self.alpha)?;
        check_not_negative("1 / eps", 1. / self.eps)?;
        Ok(CocobState {
            init_particles: copied(params)?,
            cumulative_gradients: zeros_like(params)?,
            scale: zeros_like(params)?.apply(|zeros| Ok((zeros + self.eps)?))?,
            subgradients: zeros_like(params)?,
            reward: zeros_like(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let own = [
            &mut state.init_particles,
            &mut state.cumulative_gradients,
            &mut state.scale,
            &mut state.subgradients,
            &mut state.reward,
        ];
        updates.map(self.clone(), own)
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    /// The wealth after the gradient of the step decides.
    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::unknown())
    }
}

impl Rule<5> for ScaleByCocob {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, p: N, [p0, sum, scale, size, reward]: [N; 5]) -> (N, [N; 5]) {
        let scale = scale.max(g.clone().abs());
        let size = size + g.clone().abs();
        let reward = (reward - g.clone() * (p.clone() - p0.clone())).max(N::constant(0.));
        let sum = sum - g;
        let most = (size.clone() + scale.clone()).max(scale.clone() * self.alpha);
        let bet = sum.clone() / (scale.clone() * most) * (scale.clone() + reward.clone());
        (p0.clone() + bet - p, [p0, sum, scale, size, reward])
    }
}

/// The type of [`cocob`].
pub type Cocob = Chain<(AddDecayedWeights, ScaleBySchedule, ScaleByCocob)>;

/// Coin betting: [`scale_by_cocob`] on gradients with an L2 penalty, none by default.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, cocob};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(cocob()).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "13.88", "13.76", "13.63", "13.50"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn cocob() -> Cocob {
    chain((add_decayed_weights(0.), scale_by_schedule(1.), scale_by_cocob()))
}

options!(Cocob:
    0 AddDecayedWeights { weight_decay: impl Into<Schedule> }
    2 ScaleByCocob { alpha: f64, eps: f64 }
);

weight_decay_mask!(Cocob: 0);

impl Cocob {
    /// A factor on the gradients, over the steps; it keeps their sign.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: impl Into<Schedule>) -> Self {
        self.0.1 = scale_by_schedule(learning_rate);
        self
    }
}
