//! Skipping of non-finite gradients.

use treex_core::capture::condition::{NotFinite, if_finite, under_condition};
use treex_core::capture::plan::is_capturing;
use treex_core::{Leaves, Result, TreeObject};

use super::{is_finite, is_finite_on_device, unchanged};
use crate::engine::{Updates, unchanged_unless};
use crate::scalar::Count;
use crate::transformation::GradientTransformation;
use crate::transformation::Member;

/// The state of [`apply_if_finite`].
#[derive(Clone, Debug, TreeObject)]
pub struct ApplyIfFiniteState<S> {
    /// The number of consecutive non-finite gradients up to the last one: a scalar i64.
    pub notfinite_count: Count,
    /// The number of non-finite gradients: a scalar i64.
    pub total_notfinite: Count,
    /// The state of the inner transformation.
    pub inner_state: S,
}

/// See [`apply_if_finite`].
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyIfFinite<T> {
    inner: T,
    max_consecutive_errors: u64,
}

/// Skips a step whose gradients have an infinity or a NaN: parameters and the inner state stay bit-identical.
/// After `max_consecutive_errors` consecutive ones the next one is applied, so that the failure becomes
/// visible. Whether the gradients are finite is one read-back from a device; in a [captured step](treex_core::capture()) the device
/// decides and counts, and nothing is read back.
#[must_use]
pub fn apply_if_finite<T: GradientTransformation>(inner: T, max_consecutive_errors: u64) -> ApplyIfFinite<T> {
    ApplyIfFinite { inner, max_consecutive_errors }
}

impl<T: GradientTransformation> GradientTransformation for ApplyIfFinite<T> {
    type State = ApplyIfFiniteState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        Ok(ApplyIfFiniteState {
            notfinite_count: Count::zero()?,
            total_notfinite: Count::zero()?,
            inner_state: self.inner.init(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let extra = updates.extra();
        if is_capturing() {
            return Ok(updates.inner(move |grads, params| {
                let ApplyIfFiniteState { notfinite_count, total_notfinite, inner_state } = state;
                let finite = is_finite_on_device(&grads)?;
                let otherwise = NotFinite::AtMost(self.max_consecutive_errors);
                let counts = (notfinite_count.clone(), total_notfinite.clone());
                let (is_made, step) = if_finite(&finite, otherwise, &counts, || {
                    let updates = Updates::new(grads, params.clone()).with_extra(extra);
                    self.inner.update(updates, inner_state)?.compute()
                })?;
                under_condition(inner_state);
                unchanged_unless(&step, &is_made)
            }));
        }
        Ok(updates.tensors(move |grads, params| {
            if is_finite(&grads)? {
                state.notfinite_count = Count::zero()?;
            } else {
                state.total_notfinite.advance()?;
                if state.notfinite_count.advance()? <= self.max_consecutive_errors {
                    return unchanged(&grads);
                }
            }
            self.inner
                .update(Updates::new(grads, params.clone()).with_extra(extra), &mut state.inner_state)?
                .compute()
        }))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.inner, &state.inner_state)]
    }
}
