//! The switch of modules that behave differently in training.

use crate::filter::{Filter, LeafRef};
use crate::kind::KindTag;
use crate::leaf::Handle;
use crate::object::{Edge, TreeObject, VisitorMut};
use crate::path::{Path, Segment};
use crate::walk::walk;

/// A constant without leaves that [`train`](crate::Tree::train), [`eval`](crate::Tree::eval),
/// [`freeze`](crate::Tree::freeze) and [`unfreeze`](crate::Tree::unfreeze) write through a whole tree.
///
/// A module with a field `mode: Mode` asks [`is_training`](Self::is_training).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    pub(crate) training: bool,
    pub(crate) frozen: bool,
}

impl Mode {
    /// Whether to behave as in training: set to train, and not frozen.
    #[must_use]
    pub fn is_training(self) -> bool {
        self.training && !self.frozen
    }

    /// Whether `freeze` stopped this module's state and noise.
    #[must_use]
    pub fn is_frozen(self) -> bool {
        self.frozen
    }
}

/// A new module trains.
impl Default for Mode {
    fn default() -> Self {
        Self { training: true, frozen: false }
    }
}

/// Writes every mode of `tree`.
pub(crate) fn write_all<T: TreeObject + ?Sized>(tree: &mut T, write: impl FnMut(&mut Mode)) {
    tree.visit_mut(&mut Modes { path: Path::default(), write, concerned: |_: &[Segment]| true });
}

/// Writes each mode whose module has a leaf, its own or below, that `filter` selects.
pub(crate) fn write_selected<T: TreeObject + ?Sized>(
    tree: &mut T,
    filter: &impl Filter,
    write: impl FnMut(&mut Mode),
) {
    let mut selected = Vec::new();
    walk(tree, |path, kind, leaf| {
        if filter.selects(&LeafRef::new(path, kind, leaf)) {
            selected.push(Path::from(path));
        }
    });
    let concerned = |module: &[Segment]| selected.iter().any(|leaf| leaf.segments().starts_with(module));
    tree.visit_mut(&mut Modes { path: Path::default(), write, concerned });
}

struct Modes<W, C> {
    path: Path,
    write: W,
    concerned: C,
}

impl<'a, W: FnMut(&mut Mode), C: Fn(&[Segment]) -> bool> VisitorMut<'a> for Modes<W, C> {
    fn leaf(&mut self, _: KindTag, _: &'a mut Handle) {}

    fn mode(&mut self, mode: &'a mut Mode) {
        // The mode is a field of its module: the module's path is one segment shorter.
        let module = self.path.segments().split_last().map_or(&[][..], |(_, module)| module);
        if (self.concerned)(module) {
            (self.write)(mode);
        }
    }

    fn child(&mut self, edge: Edge<'_>, child: &'a mut dyn TreeObject) {
        let depth = self.path.segments().len();
        self.path.extend(edge.path);
        child.visit_mut(self);
        self.path.truncate(depth);
    }
}
