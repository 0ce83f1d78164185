//! ADOPT.

use candle_core::DType;
use treex_core::{Leaves, Result, TreeObject};

use crate::chain::{Chain, chain};
use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_float, check_not_negative, zeros_in, zeros_like};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::transform::builder;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_adopt`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByAdoptState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the normalized gradients: the parameters' shapes, f32 (f64 for f64 parameters), or
    /// `mu_dtype`.
    pub mu: Leaves,
    /// The average of the squares of the gradients: as `mu`.
    pub nu: Leaves,
}

/// See [`scale_by_adopt`].
#[derive(Clone, Debug)]
pub struct ScaleByAdopt {
    b1: f64,
    b2: f64,
    eps: f64,
    nesterov: bool,
    clip: Option<Schedule>,
    mu_dtype: Option<DType>,
}

/// Adam with its two averages in reverse order, so that it converges with any `b2`: a gradient is divided
/// by the root of the average of *previous* squares, and then averaged.
///
/// ```text
/// n  = g / max(sqrt(nu), eps), clipped to [-c^0.25, c^0.25]     with c the number of previous steps
/// mu = b1 mu + (1 - b1) n
/// nu = b2 nu + (1 - b2) g^2
/// u  = mu              b1 mu + (1 - b1) n  with nesterov
/// ```
///
/// with `b1 = 0.9`, `b2 = 0.9999` and `eps = 1e-6`. The first step only sets `nu = g^2`.
///
/// Taniguchi et al., [ADOPT: modified Adam can converge with any beta2 with the optimal
/// rate](https://arxiv.org/abs/2411.02853), 2024.
#[must_use]
pub fn scale_by_adopt() -> ScaleByAdopt {
    let clip = Schedule::new("c^0.25", |count| (count as f64).powf(0.25));
    ScaleByAdopt { b1: 0.9, b2: 0.9999, eps: 1e-6, nesterov: false, clip: Some(clip), mu_dtype: None }
}

builder!(ScaleByAdopt {
    /// The decay rate of the average of the normalized gradients.
    b1: f64,
    /// The decay rate of the average of the squares.
    b2: f64,
    /// The smallest denominator.
    eps: f64,
    /// Whether to use Nesterov momentum.
    nesterov: bool,
    /// The bound of normalized gradients, over the steps; `None` for no clipping.
    clip: Option<Schedule>,
    /// The element type of `mu`.
    mu_dtype: impl Into<Option<DType>>,
});

impl GradientTransformation for ScaleByAdopt {
    type State = ScaleByAdoptState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_float("mu_dtype", self.mu_dtype)?;
        let mu = zeros_in(params, self.mu_dtype)?;
        Ok(ScaleByAdoptState { count: Count::zero()?, mu, nu: zeros_like(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let clip = match &self.clip {
            Some(clip) => clip.at(Some(&state.count), "clip")?,
            None => f64::INFINITY,
        };
        let first = state.count.advance()? == 1;
        let (b1, b2) = if first { (1., 0.) } else { (self.b1, self.b2) };
        let rule = Step { b1, b2, eps: self.eps, nesterov: self.nesterov, clip };
        updates.map(rule, [&mut state.mu, &mut state.nu])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step, with its values of the schedules and corrections.
struct Step {
    b1: f64,
    b2: f64,
    eps: f64,
    nesterov: bool,
    clip: f64,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let Self { b1, b2, eps, nesterov, clip } = *self;
        let normalized = g.clone() / nu.clone().sqrt().max(N::constant(eps));
        let normalized = normalized.max(N::constant(-clip)).min(N::constant(clip));
        let average = |mu: N| mu * b1 + normalized.clone() * (1. - b1);
        let mu = average(mu);
        let nu = nu * b2 + g.sqr() * (1. - b2);
        let u = if nesterov { average(mu.clone()) } else { mu.clone() };
        (u, [mu, nu])
    }
}

/// The type of [`adopt`].
pub type Adopt = Chain<(ScaleByAdopt, ScaleByLearningRate)>;

/// ADOPT: [`scale_by_adopt`] and a learning rate.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, adopt};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adopt(0.5)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (value, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     objective.push(format!("{:.2}", value.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["14.00", "14.00", "13.41", "12.34", "10.93"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn adopt(learning_rate: impl Into<Schedule>) -> Adopt {
    chain((scale_by_adopt(), scale_by_learning_rate(learning_rate)))
}

options!(Adopt:
    0 ScaleByAdopt {
        b1: f64, b2: f64, eps: f64, nesterov: bool, clip: Option<Schedule>, mu_dtype: impl Into<Option<DType>>,
    }
);
