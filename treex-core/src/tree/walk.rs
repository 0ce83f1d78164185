//! The two traversals that every method uses: over leaves for reading, and for writing.

use crate::error::{Error, Result, Subject};
use crate::tree::handle::Handle;
use crate::tree::kind::KindTag;
use crate::tree::object::{ChildInfo, TreeObject, Visitor, VisitorMut};
use crate::tree::path::{Path, Segment};

/// Calls `each` with the path, kind and handle of each leaf, in field order, including `Nothing`.
pub(crate) fn walk<'a, T: TreeObject + ?Sized>(
    tree: &'a T,
    mut each: impl FnMut(&[Segment], KindTag, &'a Handle),
) {
    tree.visit(&mut Walk { path: Path::root(), kind: None, each: &mut each });
}

/// [`walk`] for writing.
pub(crate) fn walk_mut<'a, T: TreeObject + ?Sized>(
    tree: &'a mut T,
    mut each: impl FnMut(&[Segment], KindTag, &'a mut Handle),
) {
    tree.visit_mut(&mut Walk { path: Path::root(), kind: None, each: &mut each });
}

/// [`walk_mut`] with a fallible closure; returns the first error, with its path.
pub(crate) fn try_walk_mut<'a, T: TreeObject + ?Sized>(
    tree: &'a mut T,
    mut each: impl FnMut(&[Segment], KindTag, &'a mut Handle) -> Result<()>,
) -> Result<()> {
    let mut result = Ok(());
    walk_mut(tree, |path, kind, leaf| {
        if result.is_ok() {
            result = each(path, kind, leaf).map_err(|error| error.at(path));
        }
    });
    result
}

/// Adds the path of the leaf or module that `error` is about, if it is found in `tree`.
pub(crate) fn attach_path<T: TreeObject>(tree: &T, error: Error) -> Error {
    let Some(subject) = error.subject_without_path() else { return error };
    let mut search = Search { subject, path: Path::default(), found: None };
    search.child(ChildInfo::new(&[]), tree);
    match search.found {
        Some(path) => error.at(path),
        None => error,
    }
}

struct Search {
    subject: Subject,
    path: Path,
    found: Option<Path>,
}

impl<'a> Visitor<'a> for Search {
    fn leaf(&mut self, _: KindTag, leaf: &'a Handle) {
        if self.subject == Subject::Leaf(leaf.address()) {
            self.found.get_or_insert_with(|| self.path.clone());
        }
    }

    fn child(&mut self, edge: ChildInfo<'_>, child: &'a dyn TreeObject) {
        let depth = self.path.segments().len();
        self.path.extend(edge.path);
        if child.identity().is_some_and(|module| self.subject == Subject::Module(module)) {
            self.found.get_or_insert_with(|| self.path.clone());
        }
        child.visit(self);
        self.path.truncate(depth);
    }
}

struct Walk<'f, F: ?Sized> {
    path: Path,
    kind: Option<KindTag>,
    each: &'f mut F,
}

impl<F: ?Sized> Walk<'_, F> {
    /// Runs `below` one level down. The outermost re-tagging wins.
    fn down(&mut self, edge: ChildInfo<'_>, below: impl FnOnce(&mut Self)) {
        let (depth, kind) = (self.path.segments().len(), self.kind);
        self.path.extend(edge.path);
        self.kind = kind.or(edge.kind);
        below(self);
        self.path.truncate(depth);
        self.kind = kind;
    }
}

impl<'a, F: FnMut(&[Segment], KindTag, &'a Handle)> Visitor<'a> for Walk<'_, F> {
    fn leaf(&mut self, kind: KindTag, leaf: &'a Handle) {
        (self.each)(self.path.segments(), self.kind.unwrap_or(kind), leaf);
    }

    fn child(&mut self, edge: ChildInfo<'_>, child: &'a dyn TreeObject) {
        self.down(edge, |walk| child.visit(walk));
    }
}

impl<'a, F: FnMut(&[Segment], KindTag, &'a mut Handle)> VisitorMut<'a> for Walk<'_, F> {
    fn leaf(&mut self, kind: KindTag, leaf: &'a mut Handle) {
        (self.each)(self.path.segments(), self.kind.unwrap_or(kind), leaf);
    }

    fn child(&mut self, edge: ChildInfo<'_>, child: &'a mut dyn TreeObject) {
        self.down(edge, |walk| child.visit_mut(walk));
    }
}
