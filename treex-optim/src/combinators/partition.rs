//! A transformation for each group of parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use treex_core::{Error, Filter, LeafRef, Leaves, Result, by};

use super::named_chain::named_states;
use crate::engine::Updates;
use crate::selection::{Selection, candidates};
use crate::step_size::StepSize;
use crate::transformation::{Boxed, BoxedState, Member};
use crate::transformation::{GradientTransformation, foreign_state};

/// See [`partition`].
#[derive(Clone, Debug, Default)]
pub struct Partition {
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    name: String,
    selection: Selection,
    inner: Boxed,
}

/// Groups of parameters, each with its own transformation. A leaf belongs to the first group whose filter
/// selects it; a leaf of no group is an error of `init`, so the last group usually selects the rest. So is a
/// group without leaves, unless it is such a last one.
///
/// ```
/// use treex_optim::{adamw, partition, prelude::*, sgd};
/// use treex_core::TreePart;
///
/// let groups = partition()
///     .group("embeddings", path("embed.**"), sgd(0.1))
///     .group("no_decay", path("**.bias") | path("**.scale"), adamw(1e-3).weight_decay(0.0))
///     .group("rest", TreePart, adamw(1e-3));
/// # let _ = groups;
/// ```
///
/// The names are the first segments of the paths in the state. By labels: [`multi_transform`].
#[must_use]
pub fn partition() -> Partition {
    Partition::default()
}

/// [`partition`] as in Optax: a function labels each leaf, and each label has its transformation.
///
/// ```
/// use treex_optim::{GradientTransformation, adam, multi_transform, sgd};
///
/// let by_rank = multi_transform([("matrix", adam(1e-3).boxed()), ("other", sgd(0.1).boxed())], |leaf| {
///     if leaf.rank() == Some(2) { "matrix" } else { "other" }
/// });
/// # let _ = by_rank;
/// ```
#[must_use]
pub fn multi_transform<N: Into<String>, L: AsRef<str>>(
    transformations: impl IntoIterator<Item = (N, Boxed)>,
    label: impl Fn(&LeafRef<'_>) -> L + Send + Sync + 'static,
) -> Partition {
    let label = Arc::new(label);
    transformations.into_iter().fold(partition(), |partition, (name, inner)| {
        let (label, name) = (Arc::clone(&label), name.into());
        let labelled = name.clone();
        partition.group(name, by(move |leaf| label(leaf).as_ref() == labelled), inner)
    })
}

impl Partition {
    /// Adds a group: the leaves that `filter` selects and no previous group does.
    #[must_use]
    pub fn group(
        mut self,
        name: impl Into<String>,
        filter: impl Filter + Send + Sync + 'static,
        inner: impl GradientTransformation,
    ) -> Self {
        self.groups.push(Group {
            name: name.into(),
            selection: Selection::new(filter),
            inner: inner.boxed(),
        });
        self
    }

    /// The group of a leaf.
    fn group_of(&self, leaf: &LeafRef<'_>) -> Option<usize> {
        self.groups.iter().position(|group| group.selection.selects(leaf))
    }

    /// An error for a group without leaves. One whose filter selects everything may remain for the rest.
    fn check_group(&self, params: &Leaves, index: usize, group: &Group) -> Result<()> {
        let what = format!("the group `{}` of the partition", group.name);
        group.selection.check(params, &what)?;
        let has_leaves = candidates(params).any(|leaf| self.group_of(&leaf) == Some(index));
        if has_leaves || candidates(params).all(|leaf| group.selection.selects(&leaf)) {
            return Ok(());
        }
        let filter = &group.selection;
        Err(Error::argument(format!("{what} does nothing: groups before it have all leaves of `{filter:?}`"))
            .remedy("a leaf belongs to the first group that selects it: put the narrower filter first"))
    }

    /// The leaves of a group.
    fn taken_by(&self, index: usize) -> impl Filter {
        by(move |leaf| self.group_of(leaf) == Some(index))
    }
}

impl GradientTransformation for Partition {
    type State = BTreeMap<String, BoxedState>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        if let Some(leaf) = params.iter().find(|leaf| leaf.value().is_some() && self.group_of(leaf).is_none())
        {
            let names: Vec<_> = self.groups.iter().map(|group| group.name.as_str()).collect();
            return Err(Error::argument("a parameter belongs to no group of the partition")
                .at(leaf.segments())
                .expected(format!("one of {names:?} to select it"))
                .remedy("add a last group for the rest: `.group(\"rest\", TreePart, ...)`"));
        }
        for (index, group) in self.groups.iter().enumerate() {
            self.check_group(params, index, group)?;
        }
        named_states(self.groups.iter().enumerate().map(|(index, group)| {
            (&group.name, group.inner.init(&params.clone().select(&self.taken_by(index))))
        }))
    }

    fn update<'a>(&'a self, mut updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let mut states: BTreeMap<_, _> = state.iter_mut().collect();
        for (index, group) in self.groups.iter().enumerate() {
            let state = states.remove(&group.name).ok_or_else(|| foreign_state(self))?;
            updates = updates.masked(&self.taken_by(index), |taken| group.inner.update(taken, state))?;
        }
        Ok(updates)
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        let with_state = |group: &'s Group| Some(Member::new(&group.inner, state.get(&group.name)?));
        self.groups.iter().filter_map(with_state).collect()
    }

    fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        let group = self.group_of(leaf).and_then(|index| self.groups.get(index));
        match group.and_then(|group| Some((group, state.get(&group.name)?))) {
            Some((group, state)) => group.inner.step_size(state, leaf),
            None => Ok(StepSize::dropped()),
        }
    }

    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        let mut found: Option<Leaves> = None;
        for (index, group) in self.groups.iter().enumerate() {
            let taken = params.clone().select(&self.taken_by(index));
            if let Some(state) = state.get(&group.name)
                && let Some(own) = group.inner.eval_params(state, &taken)?
            {
                let before = found.unwrap_or_else(|| own.clone());
                found = Some(own.rebuild(|at| Ok(own.get(at).or(before.get(at)).cloned()))?);
            }
        }
        Ok(found)
    }
}
