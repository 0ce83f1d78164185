//! Lookahead: slow parameters that follow fast ones.

use treex_core::{Error, Leaves, Result, TreeObject};

use super::{copied, in_place_of};
use crate::engine::{Number, Rule, Updates};
use crate::numerics::check_finite;
use crate::scalar::Count;
use crate::transformation::GradientTransformation;
use crate::transformation::Member;

/// The state of [`lookahead`].
#[derive(Clone, Debug, TreeObject)]
pub struct LookaheadState<S> {
    /// Steps since fast and slow parameters were the same: a scalar i64.
    pub steps_since_sync: Count,
    /// The slow parameters: the parameters' shapes, f32 (f64 for f64 parameters).
    pub slow: Leaves,
    /// The state of the fast optimizer.
    pub fast_state: S,
}

/// See [`lookahead`].
#[derive(Clone, Debug, PartialEq)]
pub struct Lookahead<T> {
    fast: T,
    sync_period: u64,
    slow_step_size: f64,
    reset_state: bool,
}

/// The fast optimizer trains the model; every `sync_period` steps the slow parameters, kept in the state,
/// move towards the model's, and the model is reset to them:
///
/// ```text
/// slow = slow + slow_step_size * (p + u - slow)
/// u    = slow - p
/// ```
///
/// The slow parameters are those to evaluate with: [`Optimizer::eval_model`](crate::Optimizer::eval_model).
/// In Optax the model holds both, as a pair.
///
/// Zhang et al., [Lookahead optimizer: k steps forward, 1 step back](https://arxiv.org/abs/1907.08610),
/// 2019.
#[must_use]
pub fn lookahead<T: GradientTransformation>(fast: T, sync_period: u64, slow_step_size: f64) -> Lookahead<T> {
    Lookahead { fast, sync_period, slow_step_size, reset_state: false }
}

impl<T> Lookahead<T> {
    /// Whether to reset the fast optimizer's state after each synchronization. Default: false.
    #[must_use]
    pub fn reset_state(self, reset_state: bool) -> Self {
        Self { reset_state, ..self }
    }
}

impl<T: GradientTransformation> GradientTransformation for Lookahead<T> {
    type State = LookaheadState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_finite("slow_step_size", self.slow_step_size)?;
        if self.sync_period < 1 {
            return Err(Error::argument("`sync_period` is too small").expected("1 or more").found(0));
        }
        Ok(LookaheadState {
            steps_since_sync: Count::zero()?,
            slow: copied(params)?,
            fast_state: self.fast.init(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let since = state.steps_since_sync.advance()?;
        if since == 1 && self.reset_state {
            // Just after a synchronization, so the slow parameters are those of the model.
            state.fast_state = self.fast.init(&state.slow)?;
        }
        let updates = self.fast.update(updates, &mut state.fast_state)?;
        if since < self.sync_period {
            return Ok(updates);
        }
        state.steps_since_sync = Count::zero()?;
        updates.map(Sync(self.slow_step_size), [&mut state.slow])
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.fast, &state.fast_state)]
    }

    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        in_place_of(params, &state.slow).map(Some)
    }
}

/// A synchronization.
struct Sync(f64);

impl Rule<1> for Sync {
    #[inline(always)]
    fn apply<N: Number>(&self, u: N, p: N, [slow]: [N; 1]) -> (N, [N; 1]) {
        let slow = slow.clone() + (p.clone() + u - slow) * self.0;
        (slow.clone() - p, [slow])
    }
}
