//! Prodigy.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use super::distance_estimate::{Descend, check_options, corrected_rate, l1_norm, step_size, total};
use crate::combinators::copied;
use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_not_negative, zeros_like};
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transform::builder;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`prodigy`].
#[derive(Clone, Debug, TreeObject)]
pub struct ProdigyState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the scaled gradients: the parameters' shapes, f32 (f64 for f64 parameters).
    pub exp_avg: Leaves,
    /// The average of their squares: as `exp_avg`.
    pub exp_avg_sq: Leaves,
    /// The decaying sum of the gradients: as `exp_avg`.
    pub grad_sum: Leaves,
    /// The initial parameters: as `exp_avg`.
    pub params0: Leaves,
    /// The estimate of the distance to the solution, which is the learning rate: a scalar f64.
    pub estim_lr: Scalar,
    /// The numerator of the estimate: a scalar f64.
    pub numerator_weighted: Scalar,
}

/// See [`prodigy`].
#[derive(Clone, Debug)]
pub struct Prodigy {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    b3: Option<f64>,
    eps: f64,
    estim_lr0: f64,
    estim_lr_coef: f64,
    weight_decay: f64,
    safeguard_warmup: bool,
}

/// Adam that finds its learning rate: an estimate `d` of the distance to the solution, which only grows. At
/// step `t` (from 1), with `rate = d * lr * sqrt(1 - b2^t) / (1 - b1^t)`:
///
/// ```text
/// m = b1 m + (1 - b1) d g            v = b2 v + (1 - b2) (d g)^2
/// s = b3 s + (d / d0) rate g         r = b3 r + (d / d0) rate <g, p0 - p>
/// d = max(d, estim_lr_coef * r / norm1(s))
/// u = -rate m / (sqrt(v) + d eps) - weight_decay * rate * p
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.999`, `b3 = sqrt(b2)`, `eps = 1e-8` and `d0 = 1e-6`. The schedule, 1 by default,
/// corresponds to a schedule of AdamW divided by its peak. Gradients of zeros keep the estimate; in Optax it
/// becomes NaN.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, prodigy};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(prodigy()).init(&x)?;
/// let mut objective = Vec::new();
/// for step in 0..50 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     if step % 10 == 0 {
///         objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
///     }
/// }
/// assert_eq!(objective, ["14.00", "14.00", "13.98", "12.72", "3.68"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// Mishchenko and Defazio, [Prodigy: an expeditiously adaptive parameter-free
/// learner](https://arxiv.org/abs/2306.06101), 2023.
#[must_use]
pub fn prodigy() -> Prodigy {
    Prodigy {
        learning_rate: Schedule::from(1.),
        b1: 0.9,
        b2: 0.999,
        b3: None,
        eps: 1e-8,
        estim_lr0: 1e-6,
        estim_lr_coef: 1.,
        weight_decay: 0.,
        safeguard_warmup: false,
    }
}

builder!(Prodigy {
    /// A factor on the estimate, over the steps.
    learning_rate: impl Into<Schedule>,
    /// The decay rate of the average of the gradients.
    b1: f64,
    /// The decay rate of the average of the squares.
    b2: f64,
    /// The decay rate of the sums behind the estimate.
    b3: f64,
    /// Added to the denominator, times the estimate.
    eps: f64,
    /// The first estimate.
    estim_lr0: f64,
    /// A factor on later estimates.
    estim_lr_coef: f64,
    /// The weight decay, multiplied by the rate.
    weight_decay: f64,
    /// Whether to omit the schedule and the corrections from `s`, for a warm-up.
    safeguard_warmup: bool,
});

impl Prodigy {
    fn decay_of_sums(&self) -> f64 {
        self.b3.unwrap_or(self.b2.sqrt())
    }

    fn step(&self, grads: Leaves, state: &mut ProdigyState, params: &Leaves) -> Result<Leaves> {
        let lr = self.learning_rate.at(Some(&state.count), "learning_rate")?;
        let t = state.count.advance()?;
        let b3 = self.decay_of_sums();
        let d = state.estim_lr.get()?;
        let rate = corrected_rate(d, lr, [self.b1, self.b2], t);

        let weight = d / self.estim_lr0 * if self.safeguard_warmup { d } else { rate };
        let moments = Moments { d, b1: self.b1, b2: self.b2, b3, weight };
        let own = [&mut state.exp_avg, &mut state.exp_avg_sq, &mut state.grad_sum, &mut state.params0];
        let descent = Updates::new(grads, params.clone()).map(moments, own)?.compute()?;

        let r = b3 * state.numerator_weighted.get()? + d / self.estim_lr0 * rate * total(&descent)?;
        state.numerator_weighted.set(r)?;
        let d = d.max(self.estim_lr_coef * r / l1_norm(&state.grad_sum, &descent)?);
        state.estim_lr.set(d)?;

        let step = Descend { rate, eps: d * self.eps, decay: self.weight_decay * rate };
        Updates::new(descent, params.clone())
            .map(step, [&mut state.exp_avg, &mut state.exp_avg_sq])?
            .compute()
    }
}

impl GradientTransformation for Prodigy {
    type State = ProdigyState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        let numbers = [self.eps, self.estim_lr0, self.weight_decay];
        check_options(&self.learning_rate, [self.b1, self.b2], numbers)?;
        check_decay("b3", self.decay_of_sums())?;
        check_not_negative("estim_lr_coef", self.estim_lr_coef)?;
        Ok(ProdigyState {
            count: Count::zero()?,
            exp_avg: zeros_like(params)?,
            exp_avg_sq: zeros_like(params)?,
            grad_sum: zeros_like(params)?,
            params0: copied(params)?,
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

/// The moments of one step; the update is each element's part in `<g, p0 - p>`.
struct Moments {
    d: f64,
    b1: f64,
    b2: f64,
    b3: f64,
    weight: f64,
}

impl Rule<4> for Moments {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, p: N, [m, v, s, p0]: [N; 4]) -> (N, [N; 4]) {
        let Self { d, b1, b2, b3, weight } = *self;
        let scaled = g.clone() * d;
        let m = m * b1 + scaled.clone() * (1. - b1);
        let v = v * b2 + scaled.sqr() * (1. - b2);
        let s = s * b3 + g.clone() * weight;
        (g * (p0.clone() - p), [m, v, s, p0])
    }
}
