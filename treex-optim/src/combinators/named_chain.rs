//! A chain whose members have names.

use std::collections::BTreeMap;

use treex_core::{Error, LeafRef, Leaves, Result};

use crate::engine::Updates;
use crate::step_size::StepSize;
use crate::transformation::{Boxed, BoxedState, Member, in_sequence};
use crate::transformation::{GradientTransformation, foreign_state};

/// See [`named_chain`].
#[derive(Clone, Debug)]
pub struct NamedChain(Vec<(String, Boxed)>);

/// [`chain`](crate::chain) of any number of members, each with a name. The names are the first segments of
/// the paths in the state, so a saved state can be loaded after reordering.
///
/// ```
/// use treex_optim::{GradientTransformation, clip_by_global_norm, named_chain, scale, scale_by_adam};
///
/// let adam = named_chain([
///     ("clip", clip_by_global_norm(1.0).boxed()),
///     ("adam", scale_by_adam().boxed()),
///     ("rate", scale(-1e-3).boxed()),
/// ]);
/// # let _ = adam;
/// ```
///
/// Two members with one name are an error of `init`.
#[must_use]
pub fn named_chain<N: Into<String>>(members: impl IntoIterator<Item = (N, Boxed)>) -> NamedChain {
    NamedChain(members.into_iter().map(|(name, member)| (name.into(), member)).collect())
}

/// The states of named transformations.
pub(crate) type NamedStates = BTreeMap<String, BoxedState>;

/// The states of transformations, whose names must be unique.
pub(crate) fn named_states<'n>(
    members: impl Iterator<Item = (&'n String, Result<BoxedState>)>,
) -> Result<NamedStates> {
    let mut states = NamedStates::new();
    for (name, state) in members {
        if states.insert(name.clone(), state?).is_some() {
            return Err(Error::argument(format!("two transformations are named `{name}`"))
                .remedy("give each a unique name; it is the first segment of the paths in the state"));
        }
    }
    Ok(states)
}

impl GradientTransformation for NamedChain {
    type State = BTreeMap<String, BoxedState>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        named_states(self.0.iter().map(|(name, member)| (name, member.init(params))))
    }

    fn update<'a>(&'a self, mut updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let mut states: BTreeMap<_, _> = state.iter_mut().collect();
        for (name, member) in &self.0 {
            let state = states.remove(name).ok_or_else(|| foreign_state(self))?;
            updates = member.update(updates, state)?;
        }
        Ok(updates)
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        let with_state = |(name, member)| Some(Member::new(member, state.get(name)?));
        self.0.iter().map(|(name, member)| (name, member)).filter_map(with_state).collect()
    }

    fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        in_sequence(self.members(state), leaf)
    }
}
