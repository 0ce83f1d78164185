//! An average of the updates.

use candle_core::DType;
use treex_core::{LeafRef, Leaves, Result, TreeObject};

use crate::engine::Updates;
use crate::numerics::{check_decay, check_float, zeros_in};
use crate::scalar::Count;
use crate::step_size::StepSize;
use crate::transform::average::Average;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`ema`].
#[derive(Clone, Debug, TreeObject)]
pub struct EmaState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average, not debiased: the parameters' shapes, f32 (f64 for f64 parameters), or
    /// `accumulator_dtype`.
    pub ema: Leaves,
}

/// See [`ema`].
#[derive(Clone, Debug, PartialEq)]
pub struct Ema {
    decay: f64,
    debias: bool,
    accumulator_dtype: Option<DType>,
}

/// A decaying average of the updates, at step `t` (from 1):
///
/// ```text
/// ema = decay * ema + (1 - decay) * g
/// u   = ema / (1 - decay^t)           ema without debias
/// ```
///
/// The stored average is never debiased. The average is f32 for narrower parameters, where Optax keeps the
/// parameters' type; `accumulator_dtype` overrides this, and rounds only the state.
#[must_use]
pub fn ema(decay: f64) -> Ema {
    Ema { decay, debias: true, accumulator_dtype: None }
}

builder!(Ema {
    /// The decay rate of the average.
    decay: f64,
    /// Whether to correct the bias of the start at zero. Default: true.
    debias: bool,
    /// The element type of the average.
    accumulator_dtype: impl Into<Option<DType>>,
});

impl GradientTransformation for Ema {
    type State = EmaState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("decay", self.decay)?;
        check_float("accumulator_dtype", self.accumulator_dtype)?;
        Ok(EmaState { count: Count::zero()?, ema: zeros_in(params, self.accumulator_dtype)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let t = state.count.advance()?;
        let average = if self.debias { Average::debiased(self.decay, t) } else { Average::raw(self.decay) };
        updates.map(average, [&mut state.ema])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::times(1.))
    }
}
