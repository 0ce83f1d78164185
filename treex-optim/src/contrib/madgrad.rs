//! MADGRAD.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::chain::{Chain, chain};
use crate::combinators::copied;
use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_not_negative, zeros_like};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::builder;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_madgrad`].
#[derive(Clone, Debug, TreeObject)]
pub struct MadgradState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The weighted sum of the squares of the gradients: the parameters' shapes, f32 (f64 for f64
    /// parameters).
    pub grad_sum_sq: Leaves,
    /// The weighted sum of the gradients: as `grad_sum_sq`.
    pub s: Leaves,
    /// The initial parameters: as `grad_sum_sq`.
    pub x0: Leaves,
}

/// See [`scale_by_madgrad`].
#[derive(Clone, Debug)]
pub struct ScaleByMadgrad {
    learning_rate: Schedule,
    momentum: f64,
    eps: f64,
}

/// Dual averaging with a cube root, and with momentum. At step `t` (from 1), with `w = (lr + eps) sqrt(t)`:
///
/// ```text
/// G = G + w g^2     s = s + w g
/// z = x0 - s / (cbrt(G) + eps)
/// p = momentum p + (1 - momentum) z
/// ```
///
/// with `momentum = 0.9` and `eps = 1e-6`. It applies the learning rate and flips the sign itself.
///
/// Defazio and Jelassi, [Adaptivity without compromise](https://arxiv.org/abs/2101.11075), 2021.
#[must_use]
pub fn scale_by_madgrad(learning_rate: impl Into<Schedule>) -> ScaleByMadgrad {
    ScaleByMadgrad { learning_rate: learning_rate.into(), momentum: 0.9, eps: 1e-6 }
}

builder!(ScaleByMadgrad {
    /// The weight of the parameters before the step.
    momentum: f64,
    /// Added to the rate, and to the denominator.
    eps: f64,
});

impl GradientTransformation for ScaleByMadgrad {
    type State = MadgradState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        self.learning_rate.check("learning_rate")?;
        check_decay("momentum", self.momentum)?;
        check_not_negative("eps", self.eps)?;
        Ok(MadgradState {
            count: Count::zero()?,
            grad_sum_sq: zeros_like(params)?,
            s: zeros_like(params)?,
            x0: copied(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let rate = self.learning_rate.at(Some(&state.count), "learning_rate")?;
        let t = state.count.advance()?;
        let rule =
            Step { weight: (rate + self.eps) * (t as f64).sqrt(), momentum: self.momentum, eps: self.eps };
        updates.map(rule, [&mut state.grad_sum_sq, &mut state.s, &mut state.x0])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        self.learning_rate.at(Some(&state.count), "learning_rate").map(StepSize::learning_rate)
    }
}

/// One step, with the weight of its count.
struct Step {
    weight: f64,
    momentum: f64,
    eps: f64,
}

impl Rule<3> for Step {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, p: N, [sum_sq, s, x0]: [N; 3]) -> (N, [N; 3]) {
        let sum_sq = sum_sq + g.clone().sqr() * self.weight;
        let s = s + g * self.weight;
        let z = x0.clone() - s.clone() / (sum_sq.clone().powf(1. / 3.) + self.eps);
        ((z - p) * (1. - self.momentum), [sum_sq, s, x0])
    }
}

/// The type of [`madgrad`].
pub type Madgrad = Chain<(AddDecayedWeights, ScaleByMadgrad)>;

/// MADGRAD: [`scale_by_madgrad`] on gradients with an L2 penalty, none by default.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, madgrad};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(madgrad(0.5)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "12.78", "10.87", "8.57", "6.19"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn madgrad(learning_rate: impl Into<Schedule>) -> Madgrad {
    chain((add_decayed_weights(0.), scale_by_madgrad(learning_rate)))
}

options!(Madgrad:
    0 AddDecayedWeights { weight_decay: impl Into<Schedule> }
    1 ScaleByMadgrad { momentum: f64, eps: f64 }
);

weight_decay_mask!(Madgrad: 0);
