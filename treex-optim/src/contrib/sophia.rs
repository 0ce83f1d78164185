//! Sophia: clipped steps along gradients divided by the curvature.

use candle_core::DType;
use treex_core::{Error, Leaves, Result, TreeObject};

use super::hutchinson::{Hutchinson, hutchinson_estimator_diag_hessian};
use crate::chain::{Chain, chain};
use crate::engine::{Number, Rule, Updates};
use crate::numerics::{
    bias_correction, check_decay, check_finite, check_float, check_not_negative, zeros_in, zeros_like,
};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::average::Average;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transformation::{GradientTransformation, Member};

/// The state of [`scale_by_sophia`].
#[derive(Clone, Debug, TreeObject)]
pub struct SophiaState<S> {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters), or `mu_dtype`.
    pub mu: Leaves,
    /// The average of the diagonal of the Hessian: the parameters' shapes, f32 (f64 for f64 parameters).
    pub nu: Leaves,
    /// The state of the estimator.
    pub hessian_fn_state: S,
}

/// See [`scale_by_sophia`].
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleBySophia<H> {
    b1: f64,
    b2: f64,
    eps: f64,
    gamma: f64,
    clip_threshold: Option<f64>,
    update_interval: u64,
    mu_dtype: Option<DType>,
    hessian_diagonal_fn: H,
}

/// An average of the gradients, divided by one of the curvature, and clipped where that is small or negative:
///
/// ```text
/// mu = b1 mu + (1 - b1) g
/// u  = clip(mu / (1 - b1^t) / max(gamma nu, eps), -clip_threshold, clip_threshold)
/// nu = b2 nu + (1 - b2) h                            afterwards, at the first of update_interval steps
/// ```
///
/// with `b1 = 0.965`, `b2 = 0.99`, `eps = 1e-8`, `gamma = 0.01`, `clip_threshold = 1` and `update_interval = 10`. `h` is
/// what `hessian_diagonal_fn` makes of the gradients:
/// [`hutchinson_estimator_diag_hessian`] with `Key::from(0)` by default, for which steps are made with
/// [`Optimizer::minimize`](crate::Optimizer::minimize).
///
/// Liu et al., [Sophia: a scalable stochastic second-order optimizer for language model
/// pre-training](https://arxiv.org/abs/2305.14342), 2023.
#[must_use]
pub fn scale_by_sophia() -> ScaleBySophia<Hutchinson> {
    ScaleBySophia {
        b1: 0.965,
        b2: 0.99,
        eps: 1e-8,
        gamma: 0.01,
        clip_threshold: Some(1.),
        update_interval: 10,
        mu_dtype: None,
        hessian_diagonal_fn: hutchinson_estimator_diag_hessian(0),
    }
}

impl<H> ScaleBySophia<H> {
    /// The decay rate of the average of the gradients.
    #[must_use]
    pub fn b1(self, b1: f64) -> Self {
        Self { b1, ..self }
    }

    /// The decay rate of the average of the curvature, at each of its updates.
    #[must_use]
    pub fn b2(self, b2: f64) -> Self {
        Self { b2, ..self }
    }

    /// The smallest denominator.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// The factor on the curvature.
    #[must_use]
    pub fn gamma(self, gamma: f64) -> Self {
        Self { gamma, ..self }
    }

    /// The largest absolute value of an update; `None` for no bound.
    #[must_use]
    pub fn clip_threshold(self, clip_threshold: impl Into<Option<f64>>) -> Self {
        Self { clip_threshold: clip_threshold.into(), ..self }
    }

    /// The number of steps between estimates of the curvature.
    #[must_use]
    pub fn update_interval(self, update_interval: u64) -> Self {
        Self { update_interval, ..self }
    }

    /// The element type of `mu`.
    #[must_use]
    pub fn mu_dtype(self, mu_dtype: impl Into<Option<DType>>) -> Self {
        Self { mu_dtype: mu_dtype.into(), ..self }
    }

    /// Replaces the estimator of the curvature by a transformation that makes it of the gradients:
    /// [`gauss_newton_bartlett`](crate::gauss_newton_bartlett()) is the paper's other one.
    #[must_use]
    pub fn hessian_diagonal_fn<U: GradientTransformation>(self, hessian_diagonal_fn: U) -> ScaleBySophia<U> {
        let Self { b1, b2, eps, gamma, clip_threshold, update_interval, mu_dtype, .. } = self;
        ScaleBySophia { b1, b2, eps, gamma, clip_threshold, update_interval, mu_dtype, hessian_diagonal_fn }
    }
}

impl<H: GradientTransformation> GradientTransformation for ScaleBySophia<H> {
    type State = SophiaState<H::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("b1", self.b1)?;
        check_decay("b2", self.b2)?;
        check_not_negative("eps", self.eps)?;
        check_finite("gamma", self.gamma)?;
        check_not_negative("clip_threshold", self.clip_threshold.unwrap_or(0.))?;
        check_float("mu_dtype", self.mu_dtype)?;
        if self.update_interval == 0 {
            return Err(Error::argument("`update_interval` is 0").expected("1 or more"));
        }
        Ok(SophiaState {
            count: Count::zero()?,
            mu: zeros_in(params, self.mu_dtype)?,
            nu: zeros_like(params)?,
            hessian_fn_state: self.hessian_diagonal_fn.init(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let renew = state.count.get()?.is_multiple_of(self.update_interval);
        let t = state.count.advance()?;
        let rule = Step {
            b1: self.b1,
            correction: bias_correction(self.b1, t),
            gamma: self.gamma,
            eps: self.eps,
            threshold: self.clip_threshold.unwrap_or(f64::INFINITY),
        };
        let extra = updates.extra();
        Ok(updates.tensors(move |grads, params| {
            let updates = || Updates::new(grads.clone(), params.clone()).with_extra(extra);
            let steps = updates().map(rule, [&mut state.mu, &mut state.nu])?.compute()?;
            if renew {
                let curvature =
                    self.hessian_diagonal_fn.update(updates(), &mut state.hessian_fn_state)?.compute()?;
                Updates::new(curvature, params.clone())
                    .map(Average::raw(self.b2), [&mut state.nu])?
                    .compute()?;
            }
            Ok(steps)
        }))
    }

    /// The estimator changes no step.
    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step; it reads the curvature and leaves it.
struct Step {
    b1: f64,
    correction: f64,
    gamma: f64,
    eps: f64,
    threshold: f64,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu, nu]: [N; 2]) -> (N, [N; 2]) {
        let mu = mu * self.b1 + g * (1. - self.b1);
        let u = mu.clone() / self.correction / (nu.clone() * self.gamma).max(N::constant(self.eps));
        (u.max(N::constant(-self.threshold)).min(N::constant(self.threshold)), [mu, nu])
    }
}

/// The type of [`sophia`].
pub type Sophia<H = Hutchinson> = Chain<(ScaleBySophia<H>, AddDecayedWeights, ScaleByLearningRate)>;

/// [`scale_by_sophia`] with decoupled weight decay of 1e-4, and the learning rate.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, enable_nested_gradients};
/// # use treex_optim::{Optimizer, sophia};
/// enable_nested_gradients()?;
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(sophia(0.1)).init(&x)?;
/// let before = optimizer.minimize(&mut x, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
/// assert!(optimizer.minimize(&mut x, |x| Ok(x.get()?.sqr()?.sum_all()?))? < before);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn sophia(learning_rate: impl Into<Schedule>) -> Sophia {
    chain((scale_by_sophia(), add_decayed_weights(1e-4), scale_by_learning_rate(learning_rate)))
}

options!(Sophia:
    0 ScaleBySophia {
        b1: f64, b2: f64, eps: f64, gamma: f64, clip_threshold: impl Into<Option<f64>>, update_interval: u64,
        mu_dtype: impl Into<Option<DType>>,
    }
    1 AddDecayedWeights { weight_decay: impl Into<Schedule> }
);

weight_decay_mask!(Sophia: 1);

impl Sophia {
    /// [`ScaleBySophia::hessian_diagonal_fn`]
    #[must_use]
    pub fn hessian_diagonal_fn<U: GradientTransformation>(self, hessian_diagonal_fn: U) -> Sophia<U> {
        let (sophia, decay, rate) = self.0;
        chain((sophia.hessian_diagonal_fn(hessian_diagonal_fn), decay, rate))
    }
}
