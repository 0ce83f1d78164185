//! MoMo-Adam: Adam with a model of the loss.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use super::momo::Model;
use crate::engine::{Number, Rule, Updates};
use crate::linesearch::vdot;
use crate::numerics::{bias_correction, check_decay, check_finite, check_not_negative, zeros_like};
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::builder;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`momo_adam`].
#[derive(Clone, Debug, TreeObject)]
pub struct MomoAdamState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub exp_avg: Leaves,
    /// The average of their squares: as `exp_avg`.
    pub exp_avg_sq: Leaves,
    /// The average of the losses: a scalar f64.
    pub barf: Scalar,
    /// The average of the products of gradients and parameters: a scalar f64.
    pub gamma: Scalar,
    /// The lower bound of the loss: a scalar f64.
    pub lb: Scalar,
}

/// See [`momo_adam`].
#[derive(Clone, Debug)]
pub struct MomoAdam {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    eps: f64,
    lower_bound: f64,
    weight_decay: f64,
    adapt_lower_bound: bool,
}

/// [`momo`](crate::momo) with Adam's average and preconditioner `d = eps + sqrt(v / (1 - b2^t))`: norms are
/// `norm(m)^2 = <m, m / d>`, the update is `-min(lr / (1 - b1^t), reach) m / d`, and averages are corrected
/// by `1 - b1^t`. With `lr = 1e-2`, `b1 = 0.9`, `b2 = 0.999` and `eps = 1e-8`.
///
/// Schaipp et al., [MoMo: momentum models for adaptive learning rates](https://arxiv.org/abs/2305.07583),
/// 2023.
#[must_use]
pub fn momo_adam() -> MomoAdam {
    MomoAdam {
        learning_rate: Schedule::from(1e-2),
        b1: 0.9,
        b2: 0.999,
        eps: 1e-8,
        lower_bound: 0.,
        weight_decay: 0.,
        adapt_lower_bound: false,
    }
}

builder!(MomoAdam {
    /// The largest step.
    learning_rate: impl Into<Schedule>,
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the average of the squares.
    b2: f64,
    /// Added to the denominator.
    eps: f64,
    /// The lower bound of the loss.
    lower_bound: f64,
    /// The weight decay, multiplied by the largest step.
    weight_decay: f64,
    /// Whether the bound is adapted.
    adapt_lower_bound: bool,
});

impl MomoAdam {
    fn descend(
        &self,
        grads: Leaves,
        state: &mut MomoAdamState,
        params: &Leaves,
        value: f64,
    ) -> Result<Leaves> {
        let alpha = self.learning_rate.at(Some(&state.count), "learning_rate")?;
        let t = state.count.advance()?;
        let barf = self.b1 * state.barf.get()? + (1. - self.b1) * value;
        let gamma = self.b1 * state.gamma.get()? + (1. - self.b1) * vdot(&grads, params)?;
        let rule =
            Moments { b1: self.b1, b2: self.b2, eps: self.eps, scale: 1. / bias_correction(self.b2, t) };
        let own = [&mut state.exp_avg, &mut state.exp_avg_sq];
        let scaled = Updates::new(grads, params.clone()).map(rule, own)?.compute()?;
        let model = Model {
            barf,
            gamma,
            iprod: vdot(&state.exp_avg, &scaled.combine(params, |_, p| Ok(p.clone()))?)?,
            norm: vdot(&state.exp_avg, &scaled)?,
            alpha,
            weight_decay: self.weight_decay,
            correction: bias_correction(self.b1, t),
        };
        let own = [&mut state.barf, &mut state.gamma, &mut state.lb];
        model.descend(scaled, params, own, self.adapt_lower_bound.then_some(self.lower_bound))
    }
}

impl GradientTransformation for MomoAdam {
    type State = MomoAdamState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        self.learning_rate.check("learning_rate")?;
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("weight_decay", self.weight_decay)?;
        check_finite("lower_bound", self.lower_bound)?;
        Ok(MomoAdamState {
            count: Count::zero()?,
            exp_avg: zeros_like(params)?,
            exp_avg_sq: zeros_like(params)?,
            barf: Scalar::new(0.)?,
            gamma: Scalar::new(0.)?,
            lb: Scalar::new(self.lower_bound)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let value = updates.extra().loss("momo_adam")?;
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

/// The moments of one step; the update is `m / d`.
struct Moments {
    b1: f64,
    b2: f64,
    eps: f64,
    scale: f64,
}

impl Rule<2> for Moments {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [m, v]: [N; 2]) -> (N, [N; 2]) {
        let m = m * self.b1 + g.clone() * (1. - self.b1);
        let v = v * self.b2 + g.sqr() * (1. - self.b2);
        let u = m.clone() / ((v.clone() * self.scale).sqrt() + self.eps);
        (u, [m, v])
    }
}
