//! The two traversals that every verb stands on: over leaves to read, and over leaves to write.

use crate::error::{Error, Result, Whose};
use crate::kind::KindTag;
use crate::leaf::Handle;
use crate::object::{Edge, TreeObject, Visitor, VisitorMut};
use crate::path::{Path, Segment};

/// Shows `each` the path, kind and handle of each leaf, in field order, `Nothing` included.
pub(crate) fn walk<'a, T: TreeObject + ?Sized>(
    tree: &'a T,
    mut each: impl FnMut(&[Segment], KindTag, &'a Handle),
) {
    tree.visit(&mut Walk { path: Path::root(), kind: None, each: &mut each });
}

/// The same for writing.
pub(crate) fn walk_mut<'a, T: TreeObject + ?Sized>(
    tree: &'a mut T,
    mut each: impl FnMut(&[Segment], KindTag, &'a mut Handle),
) {
    tree.visit_mut(&mut Walk { path: Path::root(), kind: None, each: &mut each });
}

/// [`walk_mut`] with a closure that may fail; the first failure is returned, with its path.
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

/// Says at which path of `tree` the leaf or the module stands that `error` is about, if it stands in `tree`.
pub(crate) fn place<T: TreeObject>(tree: &T, error: Error) -> Error {
    let Some(whose) = error.unplaced() else { return error };
    let mut search = Search { whose, path: Path::default(), found: None };
    search.child(Edge::new(&[]), tree);
    match search.found {
        Some(path) => error.at(path),
        None => error,
    }
}

struct Search {
    whose: Whose,
    path: Path,
    found: Option<Path>,
}

impl<'a> Visitor<'a> for Search {
    fn leaf(&mut self, _: KindTag, leaf: &'a Handle) {
        if self.whose == Whose::Leaf(leaf.address()) {
            self.found.get_or_insert_with(|| self.path.clone());
        }
    }

    fn child(&mut self, edge: Edge<'_>, child: &'a dyn TreeObject) {
        let depth = self.path.segments().len();
        self.path.extend(edge.path);
        if child.identity().is_some_and(|module| self.whose == Whose::Module(module)) {
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
    /// Runs `below` one edge further down. The outermost re-tagging wins.
    fn down(&mut self, edge: Edge<'_>, below: impl FnOnce(&mut Self)) {
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

    fn child(&mut self, edge: Edge<'_>, child: &'a dyn TreeObject) {
        self.down(edge, |walk| child.visit(walk));
    }
}

impl<'a, F: FnMut(&[Segment], KindTag, &'a mut Handle)> VisitorMut<'a> for Walk<'_, F> {
    fn leaf(&mut self, kind: KindTag, leaf: &'a mut Handle) {
        (self.each)(self.path.segments(), self.kind.unwrap_or(kind), leaf);
    }

    fn child(&mut self, edge: Edge<'_>, child: &'a mut dyn TreeObject) {
        self.down(edge, |walk| child.visit_mut(walk));
    }
}
