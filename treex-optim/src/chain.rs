//! Transformations in sequence.

use treex_core::{LeafRef, Leaves, Result};

use crate::engine::Updates;
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member, in_sequence};

/// Transformations in sequence; see [`chain`]. Its state is the tuple of their states.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain<T>(pub(crate) T);

/// Applies up to eight transformations in sequence, each to the updates of the one before it:
/// `chain((clip, adam, rate))`. A chain is a transformation itself, so longer ones nest; `chain(())` is the
/// identity.
///
/// The state of the second member is at `1` in the chain's state: `1.mu.layers.0.kernel`.
///
/// ```
/// use treex_optim::{chain, clip_by_global_norm, scale_by_adam, scale_by_learning_rate};
///
/// let clipped_adam = chain((clip_by_global_norm(1.0), scale_by_adam(), scale_by_learning_rate(1e-3)));
/// # let _ = clipped_adam;
/// ```
pub fn chain<T>(members: T) -> Chain<T>
where
    Chain<T>: GradientTransformation,
{
    Chain(members)
}

macro_rules! chain {
    ($($member:ident $index:tt),*) => {
        impl<$($member: GradientTransformation),*> GradientTransformation for Chain<($($member,)*)> {
            type State = ($($member::State,)*);

            fn init(&self, _params: &Leaves) -> Result<Self::State> {
                Ok(($(self.0.$index.init(_params)?,)*))
            }

            fn update<'a>(&'a self, updates: Updates<'a>, _state: &'a mut Self::State) -> Result<Updates<'a>> {
                $(let updates = self.0.$index.update(updates, &mut _state.$index)?;)*
                Ok(updates)
            }

            fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
                vec![$(Member::new(&self.0.$index, &_state.$index)),*]
            }

            fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
                in_sequence(self.members(state), leaf)
            }
        }
    };
}

chain!();
chain!(A 0);
chain!(A 0, B 1);
chain!(A 0, B 1, C 2);
chain!(A 0, B 1, C 2, D 3);
chain!(A 0, B 1, C 2, D 3, E 4);
chain!(A 0, B 1, C 2, D 3, E 4, F 5);
chain!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
chain!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
