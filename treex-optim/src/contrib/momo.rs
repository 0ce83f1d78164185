//! MoMo: momentum with a model of the loss.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::linesearch::vdot;
use crate::numerics::{at_least, check_decay, check_finite, check_not_negative, zeros_like};
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::builder;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`momo`].
#[derive(Clone, Debug, TreeObject)]
pub struct MomoState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub exp_avg: Leaves,
    /// The average of the losses: a scalar f64.
    pub barf: Scalar,
    /// The average of the products of gradients and parameters: a scalar f64.
    pub gamma: Scalar,
    /// The lower bound of the loss: a scalar f64.
    pub lb: Scalar,
}

/// See [`momo`].
#[derive(Clone, Debug)]
pub struct Momo {
    learning_rate: Schedule,
    beta: f64,
    lower_bound: f64,
    weight_decay: f64,
    adapt_lower_bound: bool,
}

/// Momentum whose step ends where its model of the loss reaches the lower bound:
///
/// ```text
/// f = beta f + (1 - beta) loss     c = beta c + (1 - beta) <g, p>     m = beta m + (1 - beta) g
/// t = max((1 + lr wd) (f - lower_bound - c) + <m, p>, 0) / norm(m)^2
/// u = -min(lr, t) m - lr wd / (1 + lr wd) p
/// ```
///
/// over all leaves, with `beta = 0.9` (0 at the first step), and 1, 0 and 0 for `lr`, `lower_bound` and `wd`.
/// With `adapt_lower_bound` the bound is estimated from the model. Needs the loss of each step:
/// [`Extra::value`](crate::Extra::value) or [`Optimizer::minimize`](crate::Optimizer::minimize).
///
/// Schaipp et al., [MoMo: momentum models for adaptive learning rates](https://arxiv.org/abs/2305.07583),
/// 2023.
#[must_use]
pub fn momo() -> Momo {
    Momo {
        learning_rate: Schedule::from(1.),
        beta: 0.9,
        lower_bound: 0.,
        weight_decay: 0.,
        adapt_lower_bound: false,
    }
}

builder!(Momo {
    /// The largest step.
    learning_rate: impl Into<Schedule>,
    /// The decay rate of the averages.
    beta: f64,
    /// The lower bound of the loss.
    lower_bound: f64,
    /// The weight decay, multiplied by the largest step.
    weight_decay: f64,
    /// Whether the bound is adapted.
    adapt_lower_bound: bool,
});

/// The model of the loss along the averaged gradient, for `momo` and `momo_adam`.
pub(super) struct Model {
    /// The average of the losses.
    pub(super) barf: f64,
    /// The average of the products `<g, p>`.
    pub(super) gamma: f64,
    /// The product of the averaged gradient and the parameters.
    pub(super) iprod: f64,
    /// The square of the norm of the averaged gradient.
    pub(super) norm: f64,
    /// The largest step and the decay.
    pub(super) alpha: f64,
    pub(super) weight_decay: f64,
    /// The bias correction of the averages.
    pub(super) correction: f64,
}

impl Model {
    fn decay(&self) -> f64 {
        1. + self.alpha * self.weight_decay
    }

    /// The step size, from the lower bound of the loss. If the bound adapts, not below `lowest`, it is
    /// lowered to half of what the model can reach before the step, and raised to the model's value after
    /// it.
    fn step(&self, bound: &mut Scalar, lowest: Option<f64>) -> Result<f64> {
        let mut lb = bound.get()?;
        let cap = self.decay() * (self.barf - self.gamma) + self.iprod;
        let scale = self.decay() * self.correction;
        if let Some(lowest) = lowest.filter(|_| cap < scale * lb) {
            lb = (cap / (2. * scale)).max(lowest);
        }
        let gap = self.decay() * (self.barf - self.correction * lb - self.gamma) + self.iprod;
        // NaN, of a loss for example, stays NaN.
        let reach = if self.norm <= f64::EPSILON { 0. * gap } else { at_least(gap, 0.) / self.norm };
        let step = -at_least(-reach, -self.alpha / self.correction);
        if let Some(lowest) = lowest {
            let reached = self.barf + self.iprod - self.gamma - 0.5 * step * self.norm;
            bound.set((reached / self.correction).max(lowest))?;
        }
        Ok(step)
    }

    /// The updates of a step along `direction`; writes the averages and the lower bound of the state.
    pub(super) fn descend(
        &self,
        direction: Leaves,
        params: &Leaves,
        [barf, gamma, lb]: [&mut Scalar; 3],
        lowest: Option<f64>,
    ) -> Result<Leaves> {
        let rule =
            Proximal { step: self.step(lb, lowest)?, decay: self.alpha * self.weight_decay / self.decay() };
        barf.set(self.barf)?;
        gamma.set(self.gamma)?;
        Updates::new(direction, params.clone()).map(rule, [])?.compute()
    }
}

impl Momo {
    fn descend(&self, grads: Leaves, state: &mut MomoState, params: &Leaves, value: f64) -> Result<Leaves> {
        let alpha = self.learning_rate.at(Some(&state.count), "learning_rate")?;
        let beta = if state.count.get()? == 0 { 0. } else { self.beta };
        state.count.advance()?;
        let barf = beta * state.barf.get()? + (1. - beta) * value;
        let gamma = beta * state.gamma.get()? + (1. - beta) * vdot(&grads, params)?;
        let mean = Updates::new(grads, params.clone()).map(Mean(beta), [&mut state.exp_avg])?.compute()?;
        let model = Model {
            barf,
            gamma,
            iprod: vdot(&mean, params)?,
            norm: vdot(&mean, &mean)?,
            alpha,
            weight_decay: self.weight_decay,
            correction: 1.,
        };
        let own = [&mut state.barf, &mut state.gamma, &mut state.lb];
        model.descend(mean, params, own, self.adapt_lower_bound.then_some(self.lower_bound))
    }
}

impl GradientTransformation for Momo {
    type State = MomoState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        self.learning_rate.check("learning_rate")?;
        check_decay("beta", self.beta)?;
        check_not_negative("weight_decay", self.weight_decay)?;
        check_finite("lower_bound", self.lower_bound)?;
        Ok(MomoState {
            count: Count::zero()?,
            exp_avg: zeros_like(params)?,
            barf: Scalar::new(0.)?,
            gamma: Scalar::new(0.)?,
            lb: Scalar::new(self.lower_bound)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let value = updates.extra().loss("momo")?;
        Ok(updates.tensors(move |grads, params| self.descend(grads, state, params, value)))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    /// The loss of the step decides, up to `learning_rate`.
    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::unknown())
    }
}

/// `m = beta m + (1 - beta) g`, which is the update.
struct Mean(f64);

impl Rule<1> for Mean {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [m]: [N; 1]) -> (N, [N; 1]) {
        let m = m * self.0 + g * (1. - self.0);
        (m.clone(), [m])
    }
}

/// `u = -step m - decay p`.
struct Proximal {
    step: f64,
    decay: f64,
}

impl Rule<0> for Proximal {
    #[inline(always)]
    fn apply<N: Number>(&self, m: N, p: N, []: [N; 0]) -> (N, [N; 0]) {
        (-(m * self.step) - p * self.decay, [])
    }
}
