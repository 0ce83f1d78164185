//! AdamW with D-adaptation.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use super::distance_estimate::{Descend, check_options, corrected_rate, l1_norm, step_size, total};
use crate::engine::{Number, Rule, Updates};
use crate::numerics::zeros_like;
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::builder;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`dadapt_adamw`].
#[derive(Clone, Debug, TreeObject)]
pub struct DAdaptAdamWState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the scaled gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub exp_avg: Leaves,
    /// The average of the squares of the gradients: as `exp_avg`.
    pub exp_avg_sq: Leaves,
    /// The average behind the estimate: as `exp_avg`.
    pub grad_sum: Leaves,
    /// The estimate of the distance to the solution, which is the learning rate: a scalar f64.
    pub estim_lr: Scalar,
    /// The numerator of the estimate: a scalar f64.
    pub numerator_weighted: Scalar,
}

/// See [`dadapt_adamw`].
#[derive(Clone, Debug)]
pub struct DAdaptAdamW {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    eps: f64,
    estim_lr0: f64,
    weight_decay: f64,
}

/// AdamW that finds its learning rate: an estimate `d` of the distance to the solution, which only grows. At
/// step `t` (from 1), with `rate = d * lr * sqrt(1 - b2^t) / (1 - b1^t)` and `b = sqrt(b2)`:
///
/// ```text
/// r = b r + (1 - b) rate <g, s / (sqrt(v) + eps)>
/// m = b1 m + (1 - b1) rate g      v = b2 v + (1 - b2) g^2      s = b s + (1 - b) rate g
/// d = max(d, r / ((1 - b) norm1(s)))
/// u = -m / (sqrt(v) + eps) - weight_decay * rate * p
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `eps = 1e-8`, and 1e-6 as the first estimate. Gradients of zeros keep it;
/// in Optax it becomes NaN. [`prodigy`](crate::prodigy) is its successor.
///
/// Defazio and Mishchenko, [Learning-rate-free learning by D-adaptation](https://arxiv.org/abs/2301.07733),
/// 2023.
#[must_use]
pub fn dadapt_adamw() -> DAdaptAdamW {
    DAdaptAdamW {
        learning_rate: Schedule::from(1.),
        b1: 0.9,
        b2: 0.999,
        eps: 1e-8,
        estim_lr0: 1e-6,
        weight_decay: 0.,
    }
}

builder!(DAdaptAdamW {
    /// A factor on the estimate, over the steps.
    learning_rate: impl Into<Schedule>,
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the average of the squares.
    b2: f64,
    /// Added to the denominator.
    eps: f64,
    /// The first estimate.
    estim_lr0: f64,
    /// The weight decay, multiplied by the rate.
    weight_decay: f64,
});

impl DAdaptAdamW {
    fn step(&self, grads: Leaves, state: &mut DAdaptAdamWState, params: &Leaves) -> Result<Leaves> {
        let lr = self.learning_rate.at(Some(&state.count), "learning_rate")?;
        let t = state.count.advance()?;
        let d = state.estim_lr.get()?;
        let rate = corrected_rate(d, lr, [self.b1, self.b2], t);

        let b = self.b2.sqrt();
        let moments = Moments { rate, b1: self.b1, b2: self.b2, b, eps: self.eps };
        let own = [&mut state.exp_avg, &mut state.exp_avg_sq, &mut state.grad_sum];
        let products = Updates::new(grads, params.clone()).map(moments, own)?.compute()?;

        let r = b * state.numerator_weighted.get()? + (1. - b) * rate * total(&products)?;
        state.numerator_weighted.set(r)?;
        state.estim_lr.set(d.max(r / ((1. - b) * l1_norm(&state.grad_sum, &products)?)))?;

        let step = Descend { rate: 1., eps: self.eps, decay: self.weight_decay * rate };
        Updates::new(products, params.clone())
            .map(step, [&mut state.exp_avg, &mut state.exp_avg_sq])?
            .compute()
    }
}

impl GradientTransformation for DAdaptAdamW {
    type State = DAdaptAdamWState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_options(
            &self.learning_rate,
            [self.b1, self.b2],
            [self.eps, self.estim_lr0, self.weight_decay],
        )?;
        Ok(DAdaptAdamWState {
            count: Count::zero()?,
            exp_avg: zeros_like(params)?,
            exp_avg_sq: zeros_like(params)?,
            grad_sum: zeros_like(params)?,
            estim_lr: Scalar::new(self.estim_lr0)?,
            numerator_weighted: Scalar::new(0.)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        Ok(updates.tensors(move |grads, params| self.step(grads, state, params)))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        step_size(&self.learning_rate, &state.count, &state.estim_lr)
    }
}

/// The moments of one step; the update is each element's part in `<g, s / (sqrt(v) + eps)>`.
struct Moments {
    rate: f64,
    b1: f64,
    b2: f64,
    b: f64,
    eps: f64,
}

impl Rule<3> for Moments {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [m, v, s]: [N; 3]) -> (N, [N; 3]) {
        let Self { rate, b1, b2, b, eps } = *self;
        let product = g.clone() * s.clone() / (v.clone().sqrt() + eps);
        let m = m * b1 + g.clone() * ((1. - b1) * rate);
        let v = v * b2 + g.clone().sqr() * (1. - b2);
        let s = s * b + g * ((1. - b) * rate);
        (product, [m, v, s])
    }
}
