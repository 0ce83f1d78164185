//! Steps of an optimizer that a captured step makes only where a gradient is finite: the device decides and counts, and the host
//! reads what it counted when the step is given back.

use candle_core::Tensor;

use super::phase::{Phase, phase};
use super::plan::{self, refuse, scalar};
use crate::device::decide::{Decision, decide};
use crate::error::{Error, Result};
use crate::tree::handle::Handle;
use crate::tree::object::TreeObject;
use crate::tree::walk::walk;

/// What happens where a gradient is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFinite {
    /// The step is left out, but after so many in a row the next one is made.
    AtMost(u64),
    /// The step is left out and the scale of the loss halved; so many finite ones in a row double it.
    Scale(u64),
}

/// The handles of a tree's leaves on the host. One on the device must not outlive the recording, whose memory it may have.
fn handles<T: TreeObject>(tree: &T) -> Vec<&Handle> {
    let mut handles = Vec::new();
    let is_on_host = |leaf: &Handle| leaf.value().is_some_and(|value| value.device().is_cpu());
    walk(tree, |_, _, leaf| handles.extend(is_on_host(leaf).then_some(leaf)));
    handles
}

/// The scale of a loss in a captured step: one `F64` number on the device. `counts` has three leaves on the host: the finite
/// gradients in a row, those that were not finite, and the scale.
///
/// # Errors
/// If there are too many conditions.
pub fn scale<T: TreeObject>(counts: &T) -> Result<Option<Tensor>> {
    if phase() == Phase::Outside {
        return Ok(None);
    }
    let leaves = handles(counts);
    let condition = plan::with(|plan| plan.conditions.of_scale(&leaves));
    let Some(condition) = condition.transpose()? else { return Ok(None) };
    let memory = plan::with(|plan| plan.conditions.memory(condition)).transpose()?;
    Ok(memory.map(|[_, numbers]| numbers.narrow(0, 1, 1)).transpose()?)
}

/// Records `f` so that it changes no parameter and no state unless `finite`, an `F64` number on the device, is 1, or `otherwise`
/// says so. Returns whether it does, as a number on the device, and the result of `f`. The leaves of `counts` on the host are
/// counted: for [`NotFinite::AtMost`] the gradients in a row and all that were not finite, for [`NotFinite::Scale`] as in [`scale`].
///
/// # Errors
/// Those of `f`; outside of a captured step; inside of another condition.
pub fn if_finite<T: TreeObject, R>(
    finite: &Tensor,
    otherwise: NotFinite,
    counts: &T,
    f: impl FnOnce() -> Result<R>,
) -> Result<(Tensor, R)> {
    /// Ends the condition, after a panic too.
    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            plan::with(|plan| plan.conditions.hold(0));
        }
    }

    let outside = || {
        Error::argument("a condition of a captured step is used outside of one")
            .remedy("call it in the function that is given to `capture`")
    };
    let leaves = handles(counts);
    if is_conditional() {
        refuse(
            "a condition inside of another one is used",
            "scale the loss or use `apply_if_finite`, not both",
        )?;
    }
    let looks_ahead = phase() == Phase::LookingAhead;
    let condition = plan::with(|plan| {
        let conditions = &mut plan.conditions;
        if looks_ahead {
            return Ok(conditions.looked_at());
        }
        let condition = match otherwise {
            NotFinite::AtMost(_) => conditions.next(&leaves, false)?,
            NotFinite::Scale(_) => conditions.of_scale(&leaves)?,
        };
        conditions.decide(condition).map(|()| condition)
    });
    let condition = condition.ok_or_else(outside)??;
    let applied = if looks_ahead {
        scalar().ok_or_else(outside)?
    } else {
        let memory = plan::with(|plan| (plan.conditions.memory(condition), plan.columns_of(condition)));
        let (memory, columns) = memory.ok_or_else(outside)?;
        let [counts, numbers] = memory?;
        let (limit, has_scale) = match otherwise {
            NotFinite::AtMost(limit) => (limit, false),
            NotFinite::Scale(interval) => (interval, true),
        };
        decide(Decision { finite, counts: &counts, numbers: &numbers, columns, limit, has_scale })?;
        numbers.narrow(0, 0, 1)?
    };
    plan::with(|plan| plan.conditions.hold(condition));
    let end = End;
    let result = f()?;
    drop(end);
    Ok((applied, result))
}

/// Tells that the leaves of `state` on the host change under the condition that was recorded last.
pub fn under_condition<T: TreeObject>(state: &T) {
    if phase() != Phase::Recording {
        return;
    }
    let leaves = handles(state);
    plan::with(|plan| plan.conditions.under_last(&leaves));
}

/// Whether a condition holds for what is recorded now.
#[must_use]
pub fn is_conditional() -> bool {
    plan::with(|plan| plan.conditions.now() > 0).unwrap_or(false)
}

/// The number that is 1 where the condition of now lets a step through.
pub(crate) fn applied() -> Result<Option<Tensor>> {
    let memory = plan::with(|plan| match plan.conditions.now() {
        0 => Ok(None),
        now => plan.conditions.memory(now).map(Some),
    });
    let Some([_, numbers]) = memory.transpose()?.flatten() else { return Ok(None) };
    Ok(Some(numbers.narrow(0, 0, 1)?))
}
