//! Freezing: a flag of the leaf that gradients, optimizers, statistics and noise respect.

use super::filter::{Filter, LeafRef};
use super::handle::Handle;
use super::kind::{KindTag, State};
use super::mode::Mode;
use super::object::{ChildInfo, TreeObject, VisitorMut};
use super::walk::walk_mut;
use crate::error::Result;
use crate::nearest::no_leaf;

/// See [`Tree::freeze`](crate::Tree::freeze).
pub(crate) fn set_frozen<T: TreeObject>(tree: &mut T, filter: &impl Filter, frozen: bool) -> Result<()> {
    let mut selects = false;
    walk_mut(tree, |path, kind, leaf| {
        if filter.selects(&LeafRef::new(path, kind, leaf)) {
            selects = true;
            leaf.set_frozen(frozen);
        }
    });
    if !selects {
        return Err(no_leaf(tree, filter));
    }
    let mut modes = Modes { modules: vec![Module::default()] };
    modes.child(ChildInfo::new(&[]), tree);
    Ok(())
}

/// Counts of all leaves and of frozen leaves.
#[derive(Clone, Copy, Default)]
struct Count {
    leaves: usize,
    frozen: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.leaves += other.leaves;
        self.frozen += other.frozen;
    }

    fn all_frozen(self) -> bool {
        self.leaves > 0 && self.frozen == self.leaves
    }
}

/// A module being visited.
#[derive(Default)]
struct Module<'a> {
    /// Its own leaves of kind `State`: random keys and statistics.
    state: Count,
    /// Its own leaves of other kinds.
    others: Count,
    /// The leaves of the modules below it.
    below: Count,
    modes: Vec<&'a mut Mode>,
}

impl Module<'_> {
    /// A module with state is frozen by its state; one without, by all its leaves and those below it.
    fn is_frozen(&self) -> bool {
        if self.state.leaves > 0 {
            return self.state.all_frozen();
        }
        let mut all = self.others;
        all.add(self.below);
        all.all_frozen()
    }
}

/// Sets the frozen flag in the mode of each module.
struct Modes<'a> {
    modules: Vec<Module<'a>>,
}

impl<'a> VisitorMut<'a> for Modes<'a> {
    fn leaf(&mut self, kind: KindTag, leaf: &'a mut Handle) {
        if let (Some(module), false) = (self.modules.last_mut(), leaf.is_nothing()) {
            let count = if kind.is(KindTag::of::<State>()) { &mut module.state } else { &mut module.others };
            count.add(Count { leaves: 1, frozen: usize::from(leaf.is_frozen()) });
        }
    }

    fn mode(&mut self, mode: &'a mut Mode) {
        if let Some(module) = self.modules.last_mut() {
            module.modes.push(mode);
        }
    }

    fn child(&mut self, _: ChildInfo<'_>, child: &'a mut dyn TreeObject) {
        if child.module_name().is_none() {
            return child.visit_mut(self);
        }
        self.modules.push(Module::default());
        child.visit_mut(self);
        let Some(module) = self.modules.pop() else { return };
        let is_frozen = module.is_frozen();
        if let Some(parent) = self.modules.last_mut() {
            for count in [module.state, module.others, module.below] {
                parent.below.add(count);
            }
        }
        for mode in module.modes {
            mode.frozen = is_frozen;
        }
    }
}
