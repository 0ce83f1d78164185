//! A step size that is reduced when the loss stops improving.

use treex_core::{Error, LeafRef, Leaves, Result, TreeObject};

use crate::engine::{Times, Updates};
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::step_size::StepSize;
use crate::transform::builder;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`reduce_on_plateau`].
#[derive(Clone, Debug, TreeObject)]
pub struct ReduceOnPlateauState {
    /// The factor on the updates: a scalar f64.
    pub scale: Scalar,
    /// The best loss so far: a scalar f64.
    pub best_value: Scalar,
    /// The number of consecutive losses without improvement: a scalar i64.
    pub plateau_count: Count,
    /// The number of losses still to ignore: a scalar i64.
    pub cooldown_count: Count,
    /// The number of steps in the average of losses: a scalar i64.
    pub count: Count,
    /// That average: a scalar f64.
    pub avg_value: Scalar,
}

/// See [`reduce_on_plateau`].
#[derive(Clone, Debug, PartialEq)]
pub struct ReduceOnPlateau {
    factor: f64,
    patience: u64,
    rtol: f64,
    atol: f64,
    cooldown: u64,
    accumulation_size: u64,
    min_scale: f64,
}

/// Scales updates by a number that starts at 1 and is multiplied by `factor` (0.1) when `patience` (10)
/// losses in a row were no better than the best one: none below `(1 - rtol) best - atol`, with `rtol = 1e-4`
/// and `atol = 0`. After that `cooldown` (0) losses are ignored. A loss is the mean over `accumulation_size`
/// (1) steps.
///
/// Put it last in a chain; it needs the loss of each step: [`Extra::value`](crate::Extra::value) or
/// [`Optimizer::minimize`](crate::Optimizer::minimize). PyTorch's `ReduceLROnPlateau` waits for one
/// more loss.
///
/// ```
/// use treex_optim::{adam, chain, reduce_on_plateau};
///
/// let optimizer = chain((adam(1e-3), reduce_on_plateau().factor(0.5).accumulation_size(1_000)));
/// # let _ = optimizer;
/// ```
#[must_use]
pub fn reduce_on_plateau() -> ReduceOnPlateau {
    ReduceOnPlateau {
        factor: 0.1,
        patience: 10,
        rtol: 1e-4,
        atol: 0.,
        cooldown: 0,
        accumulation_size: 1,
        min_scale: 0.,
    }
}

builder!(ReduceOnPlateau {
    /// The factor of a reduction, in (0, 1).
    factor: f64,
    /// The number of consecutive losses without improvement.
    patience: u64,
    /// The relative improvement that counts.
    rtol: f64,
    /// The absolute improvement that counts.
    atol: f64,
    /// The number of losses to ignore after a reduction.
    cooldown: u64,
    /// The number of steps averaged to one loss.
    accumulation_size: u64,
    /// The smallest scale.
    min_scale: f64,
});

impl ReduceOnPlateau {
    /// Updates the state by a loss.
    fn judge(&self, state: &mut ReduceOnPlateauState, value: f64) -> Result<()> {
        let best = state.best_value.get()?;
        if value < (1. - self.rtol) * best - self.atol {
            state.best_value.set(value)?;
            state.plateau_count = Count::zero()?;
        } else {
            state.plateau_count.advance()?;
        }
        let cooling = state.cooldown_count.get()?;
        if cooling > 0 {
            state.plateau_count = Count::zero()?;
            state.cooldown_count = Count::of(cooling - 1)?;
            return Ok(());
        }
        let mut scale = state.scale.get()?;
        if state.plateau_count.get()? == self.patience {
            scale *= self.factor;
            state.plateau_count = Count::zero()?;
            state.cooldown_count = Count::of(self.cooldown)?;
        }
        state.scale.set(scale.max(self.min_scale))
    }
}

impl GradientTransformation for ReduceOnPlateau {
    type State = ReduceOnPlateauState;

    fn init(&self, _params: &Leaves) -> Result<Self::State> {
        let fits = 0. < self.factor
            && self.factor < 1.
            && (0. ..=1.).contains(&self.rtol)
            && self.atol >= 0.
            && self.rtol + self.atol > 0.
            && self.accumulation_size > 0;
        if !fits {
            return Err(Error::argument("`reduce_on_plateau` has an option out of range")
                .expected(
                    "`factor` in (0, 1), `rtol` in [0, 1], `atol` at least 0, at least one of both and \
                     `accumulation_size` above 0",
                )
                .found(format!("{self:?}")));
        }
        Ok(ReduceOnPlateauState {
            scale: Scalar::new(1.)?,
            best_value: Scalar::new(f64::INFINITY)?,
            plateau_count: Count::zero()?,
            cooldown_count: Count::zero()?,
            count: Count::zero()?,
            avg_value: Scalar::new(0.)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let value = updates.extra().loss("reduce_on_plateau")?;
        let count = state.count.advance()?;
        let mean = ((count - 1) as f64 * state.avg_value.get()? + value) / count as f64;
        state.avg_value.set(mean)?;
        if count == self.accumulation_size {
            self.judge(state, mean)?;
            state.count = Count::zero()?;
            state.avg_value.set(0.)?;
        }
        updates.map(Times(state.scale.get()?), [])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    /// Unknown at a step whose loss may be the last one without improvement.
    fn step_size(&self, state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        let judges = state.count.get()? + 1 == self.accumulation_size && state.cooldown_count.get()? == 0;
        // A patience of 0 lowers the scale at an improvement.
        let may_be_last = self.patience == 0 || state.plateau_count.get()? + 1 == self.patience;
        let scale = state.scale.get()?;
        let changes = (scale * self.factor).max(self.min_scale) != scale;
        Ok(if judges && may_be_last && changes { StepSize::unknown() } else { StepSize::times(scale) })
    }
}
