//! Updates summed over several steps.

use treex_core::{Error, LeafRef, Leaves, Result, TreeObject};

use crate::engine::{Number, Rule, Updates};
use crate::numerics::zeros_like;
use crate::scalar::Count;
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`apply_every`].
#[derive(Clone, Debug, TreeObject)]
pub struct ApplyEveryState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The sum since the last `k`-th step: the parameters' shapes, f32 (f64 for f64 parameters).
    pub grad_acc: Leaves,
}

/// See [`apply_every`].
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyEvery {
    k: u64,
}

/// Sums the updates of `k` steps and returns the sum at every `k`-th, zeros at the other steps:
///
/// ```text
/// sum = sum + g
/// u   = sum, and sum = 0      at every k-th step
///       0                     at the others
/// ```
///
/// It is a sum, not a mean, and later members of the chain see the zeros: momentum continues and weights
/// decay at every step. Optax resets the sum one step later, which changes no update. A leaf without a gradient at the
/// `k`-th step keeps its sum for the next one.
#[must_use]
pub fn apply_every(k: u64) -> ApplyEvery {
    ApplyEvery { k }
}

impl GradientTransformation for ApplyEvery {
    type State = ApplyEveryState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        if self.k == 0 {
            return Err(
                Error::argument("`apply_every(0)` never applies an update").expected("1 or more steps")
            );
        }
        Ok(ApplyEveryState { count: Count::zero()?, grad_acc: zeros_like(params)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let emit = state.count.advance()?.is_multiple_of(self.k);
        updates.map(Sum { emit }, [&mut state.grad_acc])
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::times(1.))
    }
}

/// One step; the last of `k` emits the sum.
struct Sum {
    emit: bool,
}

impl Rule<1> for Sum {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [sum]: [N; 1]) -> (N, [N; 1]) {
        let sum = sum + g;
        if self.emit { (sum, [N::constant(0.)]) } else { (N::constant(0.), [sum]) }
    }
}
