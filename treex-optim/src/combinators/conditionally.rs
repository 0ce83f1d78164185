//! Transformations at some of the steps.

use std::fmt;
use std::sync::Arc;

use treex_core::{LeafRef, Leaves, Result, TreeObject};

use super::Unchanged;
use crate::engine::Updates;
use crate::extra::Extra;
use crate::scalar::Count;
use crate::step_size::StepSize;
use crate::transformation::GradientTransformation;
use crate::transformation::Member;

/// The state of [`conditionally_transform`] and [`conditionally_mask`].
#[derive(Clone, Debug, TreeObject)]
pub struct ConditionallyState<S> {
    /// Steps so far, whether transformed or not: a scalar i64.
    pub step: Count,
    /// The state of the inner transformation.
    pub inner_state: S,
}

/// See [`conditionally_transform`].
#[derive(Clone)]
pub struct Conditionally<T> {
    inner: T,
    condition: Arc<Condition>,
    /// Whether updates pass unchanged where the condition does not hold.
    pass: bool,
}

type Condition = dyn Fn(u64, &Extra<'_>) -> bool + Send + Sync;

/// Transforms at the steps for which `condition` holds; at the others updates pass unchanged, and the inner
/// state stays bit-identical. The condition gets the number of steps before this one, and the extra arguments
/// of the step.
///
/// ```
/// use treex_optim::{chain, clip_by_global_norm, conditionally_transform, sgd};
///
/// let clip_at_first = conditionally_transform(clip_by_global_norm(1.0), |step, _| step < 1_000);
/// let optimizer = chain((clip_at_first, sgd(0.1)));
/// # let _ = optimizer;
/// ```
#[must_use]
pub fn conditionally_transform<T: GradientTransformation>(
    inner: T,
    condition: impl Fn(u64, &Extra<'_>) -> bool + Send + Sync + 'static,
) -> Conditionally<T> {
    Conditionally { inner, condition: Arc::new(condition), pass: true }
}

/// Transforms at the steps for which `condition` holds; at the others updates are zero, and the inner state
/// stays bit-identical. See [`conditionally_transform`].
#[must_use]
pub fn conditionally_mask<T: GradientTransformation>(
    inner: T,
    condition: impl Fn(u64, &Extra<'_>) -> bool + Send + Sync + 'static,
) -> Conditionally<T> {
    Conditionally { inner, condition: Arc::new(condition), pass: false }
}

impl<T: fmt::Debug> fmt::Debug for Conditionally<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conditionally")
            .field("inner", &self.inner)
            .field("pass", &self.pass)
            .finish_non_exhaustive()
    }
}

impl<T: GradientTransformation> GradientTransformation for Conditionally<T> {
    type State = ConditionallyState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        Ok(ConditionallyState { step: Count::zero()?, inner_state: self.inner.init(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let holds = (self.condition)(state.step.get()?, &updates.extra());
        state.step.advance()?;
        match (holds, self.pass) {
            (true, _) => self.inner.update(updates, &mut state.inner_state),
            (false, true) => Ok(updates),
            (false, false) => updates.map(Unchanged, []),
        }
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.inner, &state.inner_state)]
    }

    /// Whether the condition will hold is not known before.
    fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        let inner = self.inner.step_size(&state.inner_state, leaf)?;
        Ok(if inner.changes_size() { StepSize::unknown() } else { StepSize::direction() })
    }
}
