//! Schedule-free training.

use candle_core::{DType, Tensor};
use treex_core::{Leaves, Result, TreeObject};

use crate::chain::{Chain, chain};
use crate::combinators::copied;
use crate::engine::{Number, Rule, Updates};
use crate::numerics::{check_decay, check_finite, check_float, wide};
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::scale_by_adam::{ScaleByAdam, scale_by_adam};
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transformation::GradientTransformation;
use crate::transformation::Member;

/// The state of [`schedule_free`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScheduleFreeState<S> {
    /// The number of the next step, from 1: a scalar i64.
    pub step_count: Count,
    /// The sum of the weights in the average: a scalar f64.
    pub weight_sum: Scalar,
    /// The largest learning rate so far: a scalar f64.
    pub max_lr: Scalar,
    /// The parameters of the base optimizer: their shapes, f32 (f64 for f64 parameters), or `state_dtype`.
    pub z: Leaves,
    /// The state of the base optimizer.
    pub base_optimizer_state: S,
}

/// See [`schedule_free`].
#[derive(Clone, Debug)]
pub struct ScheduleFree<T> {
    base: T,
    learning_rate: Schedule,
    b1: f64,
    weight_lr_power: f64,
    state_dtype: Option<DType>,
}

/// Replaces the schedule and the momentum of a base optimizer: gradients are computed between its
/// parameters `z` and their average `x`, and `x` is the result.
///
/// ```text
/// z = z + base(g)
/// x = (1 - c) x + c z         c = w / sum(w),  w = max(lr so far)^2
/// p = b1 x + (1 - b1) z
/// ```
///
/// The model holds `p`; `x = (p - (1 - b1) z) / b1` is what
/// [`Optimizer::eval_model`](crate::Optimizer::eval_model) returns: evaluate and save that. `base` should
/// have no momentum; `learning_rate` is its rate, possibly with a warm-up, and `b1 = 0.9`. Batch statistics
/// must be those of `x`: run some batches through it before evaluating.
///
/// As in Optax the weights read the schedule one step ahead of the base optimizer.
///
/// Defazio et al., [The road less scheduled](https://arxiv.org/abs/2405.15682), 2024.
#[must_use]
pub fn schedule_free<T: GradientTransformation>(
    base: T,
    learning_rate: impl Into<Schedule>,
) -> ScheduleFree<T> {
    ScheduleFree {
        base,
        learning_rate: learning_rate.into(),
        b1: 0.9,
        weight_lr_power: 2.,
        state_dtype: None,
    }
}

impl<T> ScheduleFree<T> {
    /// The point between `z` (0) and `x` (1) at which gradients are computed.
    #[must_use]
    pub fn b1(self, b1: f64) -> Self {
        Self { b1, ..self }
    }

    /// The power of the learning rate in the weights of the average; 0 for equal weights.
    #[must_use]
    pub fn weight_lr_power(self, weight_lr_power: f64) -> Self {
        Self { weight_lr_power, ..self }
    }

    /// The element type of `z`. The average is that of `z` as it is kept, rounded to this type.
    #[must_use]
    pub fn state_dtype(self, state_dtype: impl Into<Option<DType>>) -> Self {
        Self { state_dtype: state_dtype.into(), ..self }
    }
}

/// The type of [`schedule_free_sgd`].
pub type ScheduleFreeSgd = ScheduleFree<Chain<(AddDecayedWeights, ScaleByLearningRate)>>;

/// [`schedule_free`] around gradient descent. A rate with a warm-up is `warmup_constant(0.0, 1.0, 100)`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, schedule_free_sgd};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(schedule_free_sgd(0.2)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (_, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     let average = optimizer.eval_model(&x)?;
///     objective.push(format!("{:.2}", average.get()?.sqr()?.sum_all()?.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["5.04", "3.23", "2.00", "1.18", "0.66"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn schedule_free_sgd(learning_rate: impl Into<Schedule>) -> ScheduleFreeSgd {
    let rate = learning_rate.into();
    schedule_free(chain((add_decayed_weights(0.), scale_by_learning_rate(rate.clone()))), rate)
}

impl ScheduleFreeSgd {
    /// The weight decay, multiplied by the learning rate.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.base.0.0 = self.base.0.0.weight_decay(weight_decay);
        self
    }
}

/// The type of [`schedule_free_adamw`].
pub type ScheduleFreeAdamW = ScheduleFree<Chain<(ScaleByAdam, AddDecayedWeights, ScaleByLearningRate)>>;

/// [`schedule_free`] around AdamW without its first moment: `b2 = 0.999`, `eps = 1e-8`, no decay. Rates are
/// larger than AdamW's; 0.0025 is Optax's default.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, schedule_free_adamw};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(schedule_free_adamw(0.5)).init(&x)?;
/// let mut objective = Vec::new();
/// for _ in 0..5 {
///     let (_, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
///     optimizer.update(&gradient, &mut x)?;
///     let average = optimizer.eval_model(&x)?;
///     objective.push(format!("{:.2}", average.get()?.sqr()?.sum_all()?.to_scalar::<f32>()?));
/// }
/// assert_eq!(objective, ["8.75", "6.94", "5.44", "4.21", "3.21"]);
/// # Ok::<(), treex_core::Error>(())
/// ```
#[must_use]
pub fn schedule_free_adamw(learning_rate: impl Into<Schedule>) -> ScheduleFreeAdamW {
    let rate = learning_rate.into();
    // Without a first moment Adam is a root mean square, corrected.
    let base = chain((scale_by_adam().b1(0.), add_decayed_weights(0.), scale_by_learning_rate(rate.clone())));
    schedule_free(base, rate)
}

impl ScheduleFreeAdamW {
    /// The decay rate of the average of the squares.
    #[must_use]
    pub fn b2(mut self, b2: f64) -> Self {
        self.base.0.0 = self.base.0.0.b2(b2);
        self
    }

    /// Added to the denominator.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.base.0.0 = self.base.0.0.eps(eps);
        self
    }

    /// The weight decay, multiplied by the learning rate.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.base.0.1 = self.base.0.1.weight_decay(weight_decay);
        self
    }
}

impl<T: GradientTransformation> GradientTransformation for ScheduleFree<T> {
    type State = ScheduleFreeState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        self.learning_rate.check("learning_rate")?;
        check_decay("1 - b1", 1. - self.b1)?;
        check_finite("weight_lr_power", self.weight_lr_power)?;
        check_float("state_dtype", self.state_dtype)?;
        let z = copied(params)?;
        Ok(ScheduleFreeState {
            step_count: Count::of(1)?,
            weight_sum: Scalar::new(0.)?,
            max_lr: Scalar::new(0.)?,
            z: match self.state_dtype {
                Some(dtype) => z.apply(|z| Ok(z.to_dtype(dtype)?))?,
                None => z,
            },
            base_optimizer_state: self.base.init(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let rate = self.learning_rate.at(Some(&state.step_count), "learning_rate")?;
        let max_lr = state.max_lr.get()?.max(rate);
        let weight = max_lr.powf(self.weight_lr_power);
        let weight_sum = state.weight_sum.get()? + weight;
        state.step_count.advance()?;
        state.max_lr.set(max_lr)?;
        state.weight_sum.set(weight_sum)?;
        // All weights are 0 at the start of a warm-up.
        let share = if weight_sum == 0. { 0. } else { weight / weight_sum };
        let updates = self.base.update(updates, &mut state.base_optimizer_state)?;
        let average = Average { share, b1: self.b1 };
        if self.state_dtype.is_none() {
            return updates.map(average, [&mut state.z]);
        }
        let z = &mut state.z;
        Ok(updates.tensors(move |steps, params| {
            let before = Updates::new(steps, params.clone()).map(Advance { b1: average.b1 }, [&mut *z])?;
            Updates::new(before.compute()?, params.clone()).map(Mix(average), [z])?.compute()
        }))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.base, &state.base_optimizer_state)]
    }

    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        let average = |y: &Tensor, z: &Tensor| {
            let (dtype, z) = (y.dtype(), z.to_dtype(wide(y.dtype()))?);
            let x = ((y.to_dtype(z.dtype())? - (z * (1. - self.b1))?)? / self.b1)?;
            Ok(x.to_dtype(dtype)?)
        };
        params.combine(&state.z, average).map(Some)
    }
}

/// One step of `z`, of the average of all, and of the parameters between them.
struct Average {
    share: f64,
    b1: f64,
}

impl Average {
    /// The average of all before this step.
    #[inline(always)]
    fn before<N: Number>(b1: f64, p: N, z: N) -> N {
        (p - z * (1. - b1)) / b1
    }

    /// The change of the parameters, after a step of `z`.
    #[inline(always)]
    fn change<N: Number>(&self, x: N, p: N, z: N) -> N {
        let x = x * (1. - self.share) + z.clone() * self.share;
        x * self.b1 + z * (1. - self.b1) - p
    }
}

impl Rule<1> for Average {
    #[inline(always)]
    fn apply<N: Number>(&self, u: N, p: N, [z]: [N; 1]) -> (N, [N; 1]) {
        let x = Self::before(self.b1, p.clone(), z.clone());
        let z = z + u;
        (self.change(x, p, z.clone()), [z])
    }
}

/// The first half of [`Average`]: steps `z`, and gives the average before.
struct Advance {
    b1: f64,
}

impl Rule<1> for Advance {
    #[inline(always)]
    fn apply<N: Number>(&self, u: N, p: N, [z]: [N; 1]) -> (N, [N; 1]) {
        (Average::before(self.b1, p, z.clone()), [z + u])
    }
}

/// The second half of [`Average`], with `z` as it was written.
struct Mix(Average);

impl Rule<1> for Mix {
    #[inline(always)]
    fn apply<N: Number>(&self, x: N, p: N, [z]: [N; 1]) -> (N, [N; 1]) {
        (self.0.change(x, p, z.clone()), [z])
    }
}
