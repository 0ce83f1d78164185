//! An average of the parameters.

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use super::{copied, in_place_of};
use crate::engine::{Number, Rule, Updates};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`params_ema`].
#[derive(Clone, Debug, TreeObject)]
pub struct ParamsEmaState {
    /// The number of steps so far: a scalar i64; no leaf where the decay is constant.
    pub count: Option<Count>,
    /// The average of the parameters: their shapes, f32 (f64 for f64 parameters).
    pub ema: Leaves,
}

/// See [`params_ema`].
#[derive(Clone, Debug)]
pub struct ParamsEma {
    decay: Schedule,
}

/// Keeps an exponential moving average of the parameters, and passes the updates unchanged. Put it last in a
/// chain:
///
/// ```text
/// ema = decay * ema + (1 - decay) * (p + u)
/// ```
///
/// It starts from the parameters. With a decay that grows from 0 they fade sooner:
/// `Schedule::new("warm", |c| f64::min(0.999, (1.0 + c as f64) / (10.0 + c as f64)))`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// # use treex_optim::{Optimizer, chain, params_ema, sgd};
/// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f32, -2.], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(chain((sgd(0.5), params_ema(0.5)))).init(&x)?;
/// let (_, gradient) = x.value_and_grad(Parameter, |x| Ok(x.get()?.sqr()?.sum_all()?))?;
/// optimizer.update(&gradient, &mut x)?;
/// assert_eq!(x.get()?.to_vec1::<f32>()?, [0., 0.]);
/// assert_eq!(optimizer.eval_model(&x)?.get()?.to_vec1::<f32>()?, [0.5, -1.]);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// Polyak and Juditsky, [Acceleration of stochastic approximation by
/// averaging](https://doi.org/10.1137/0330046), 1992.
#[must_use]
pub fn params_ema(decay: impl Into<Schedule>) -> ParamsEma {
    ParamsEma { decay: decay.into() }
}

impl GradientTransformation for ParamsEma {
    type State = ParamsEmaState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        self.decay.check("decay")?;
        let count = if self.decay.is_constant() { None } else { Some(Count::zero()?) };
        Ok(ParamsEmaState { count, ema: copied(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let decay = self.decay.at(state.count.as_ref(), "decay")?;
        if let Some(count) = &mut state.count {
            count.advance()?;
        }
        updates.map(Average(decay), [&mut state.ema])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::times(1.))
    }

    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        in_place_of(params, &state.ema).map(Some)
    }
}

/// `ema = decay * ema + (1 - decay) * (p + u)`.
struct Average(f64);

impl Rule<1> for Average {
    #[inline(always)]
    fn apply<N: Number>(&self, u: N, p: N, [ema]: [N; 1]) -> (N, [N; 1]) {
        let ema = ema * self.0 + (p + u.clone()) * (1. - self.0);
        (u, [ema])
    }
}
