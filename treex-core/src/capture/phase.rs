//! Whether a step is captured on this thread.

use std::cell::Cell;

/// What this thread does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of this.
    #[default]
    Outside,
    /// A step is recorded.
    Recording,
    /// An optimizer looks ahead: it finds the numbers of the steps to come, and runs nothing.
    LookingAhead,
}

thread_local! {
    static PHASE: Cell<Phase> = const { Cell::new(Phase::Outside) };
}

pub(crate) fn phase() -> Phase {
    PHASE.get()
}

pub(super) fn set_phase(phase: Phase) {
    PHASE.set(phase);
}
