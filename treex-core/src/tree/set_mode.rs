//! Traversals that write the mode of modules.

use super::filter::{Filter, LeafRef};
use super::handle::Handle;
use super::kind::KindTag;
use super::mode::Mode;
use super::object::{ChildInfo, TreeObject, VisitorMut};
use super::path::{Path, Segment};
use super::walk::walk;

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

    fn child(&mut self, edge: ChildInfo<'_>, child: &'a mut dyn TreeObject) {
        let depth = self.path.segments().len();
        self.path.extend(edge.path);
        child.visit_mut(self);
        self.path.truncate(depth);
    }
}
