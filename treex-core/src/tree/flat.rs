//! Flat trees: the leaves in field order with their paths, independent of the model's type.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;

use crate::error::{Error, ErrorKind, Result};
use crate::tree::filter::{Filter, LeafRef};
use crate::tree::handle::Handle;
use crate::tree::kind::{KindTag, TreePart};
use crate::tree::object::{ChildInfo, TreeObject, Visitor, VisitorMut};
use crate::tree::path::{Dotted, Path, Paths, Segment};
use crate::tree::walk::{try_walk_mut, walk};

/// The structure of a tree: the paths and kinds of its leaves, in field order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    paths: Paths,
    kinds: Vec<KindTag>,
}

impl Layout {
    pub(crate) fn of<T: TreeObject + ?Sized>(tree: &T) -> Self {
        let mut layout = Self::default();
        walk(tree, |path, kind, _| layout.push(path, kind));
        layout
    }

    fn push(&mut self, path: &[Segment], kind: KindTag) {
        self.paths.push(path);
        self.kinds.push(kind);
    }

    /// Checks that `tree` has these leaves; `what` names it in the error.
    pub(crate) fn check<T: TreeObject + ?Sized>(&self, tree: &T, what: &str) -> Result<()> {
        self.check_each(tree, what, |_| ())
    }

    /// [`check`](Self::check), which also passes each leaf to `each`.
    fn check_each<'t, T: TreeObject + ?Sized>(
        &self,
        tree: &'t T,
        what: &str,
        mut each: impl FnMut(&'t Handle),
    ) -> Result<()> {
        let (mut index, mut differs) = (0, None);
        walk(tree, |path, kind, leaf| {
            let fits = index < self.paths.len() && self.paths.get(index) == path && self.kinds[index] == kind;
            if !fits && differs.is_none() {
                differs = Some((index, Path::from(path), describe(path, kind)));
            }
            index += 1;
            each(leaf);
        });
        let none = || "no more leaves".to_owned();
        let (at, found_path, found) = match differs {
            Some(differs) => differs,
            None if index < self.paths.len() => (index, Path::default(), none()),
            None => return Ok(()),
        };
        let (path, expected) = match self.kinds.get(at) {
            Some(&kind) => (Path::from(self.paths.get(at)), describe(self.paths.get(at), kind)),
            None => (found_path, none()),
        };
        Err(Error::new(ErrorKind::Structure, format!("{what} has a different structure, from leaf {at} on"))
            .at(path)
            .expected(expected)
            .found(found)
            .remedy("both trees must have the same fields, `Vec` lengths and variants; start from a clone"))
    }
}

fn describe(path: &[Segment], kind: KindTag) -> String {
    format!("`{}` of kind `{kind}`", Dotted(path))
}

/// A flat tree: a path, a kind, and a tensor or nothing at each position. Two flat trees of one model
/// align position by position, whatever the model's type.
///
/// It is itself a tree, so it can be part of another (an optimizer's moments), with the paths of its model.
#[derive(Clone)]
pub struct Leaves {
    layout: Arc<Layout>,
    handles: Vec<Handle>,
}

impl Leaves {
    pub(crate) fn of<T: TreeObject + ?Sized>(tree: &T) -> Self {
        let (mut layout, mut handles) = (Layout::default(), Vec::new());
        walk(tree, |path, kind, leaf| {
            layout.push(path, kind);
            handles.push(leaf.clone());
        });
        Self { layout: Arc::new(layout), handles }
    }

    /// The leaves of `tree`, untracked. Like `tree.flatten()`, but cheaper, since this tree's layout is reused;
    /// `what` names `tree` in the error.
    ///
    /// # Errors
    /// If the leaves of `tree` differ; the error names the first that does.
    pub fn gather<T: TreeObject + ?Sized>(&self, tree: &T, what: &str) -> Result<Self> {
        let mut handles = Vec::with_capacity(self.len());
        self.layout.check_each(tree, what, |leaf| handles.push(leaf.untracked()))?;
        Ok(Self { layout: Arc::clone(&self.layout), handles })
    }

    /// Empties every position for which `keep` is false.
    ///
    /// # Errors
    /// The first error of `keep`, with its path.
    pub fn retain(mut self, mut keep: impl FnMut(usize, &Handle) -> Result<bool>) -> Result<Self> {
        for (index, handle) in self.handles.iter_mut().enumerate() {
            match keep(index, handle) {
                Ok(true) => {}
                Ok(false) => handle.replace(Handle::nothing()),
                Err(error) => return Err(error.at(self.layout.paths.get(index))),
            }
        }
        Ok(self)
    }

    /// The number of positions, including empty ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether there are no positions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// The leaf at each position, including empty ones.
    pub fn iter(&self) -> impl Iterator<Item = LeafRef<'_>> {
        let paths = self.layout.paths.iter();
        paths
            .zip(&self.layout.kinds)
            .zip(&self.handles)
            .map(|((path, &kind), leaf)| LeafRef::new(path, kind, leaf))
    }

    /// The tensor at a position, or `None` if it is empty.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Tensor> {
        self.handles.get(index).and_then(Handle::tracked_value)
    }

    /// [`Handle::storage`] of the leaf at a position.
    #[must_use]
    pub fn storage(&self, index: usize) -> Option<usize> {
        self.handles.get(index).and_then(Handle::storage)
    }

    /// The path of a position, as segments.
    #[must_use]
    pub fn path(&self, index: usize) -> &[Segment] {
        if index < self.len() { self.layout.paths.get(index) } else { &[] }
    }

    /// The leaves without their paths and kinds, for writing.
    pub fn handles_mut(&mut self) -> &mut [Handle] {
        &mut self.handles
    }

    /// The tensors of the non-empty positions, in order.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.handles.iter().filter_map(Handle::tracked_value)
    }

    /// Keeps what `filter` selects; the other positions become empty.
    #[must_use]
    pub fn select(mut self, filter: &(impl Filter + ?Sized)) -> Self {
        let kept: Vec<_> = self.iter().map(|leaf| filter.selects(&leaf)).collect();
        for (handle, kept) in self.handles.iter_mut().zip(kept) {
            if !kept {
                *handle = Handle::nothing();
            }
        }
        self
    }

    /// Empties the positions of frozen leaves; [`is_frozen`](Self::is_frozen) still tells which they are.
    #[must_use]
    pub fn without_frozen(mut self) -> Self {
        for handle in self.handles.iter_mut().filter(|handle| handle.is_frozen()) {
            handle.replace(Handle::nothing());
        }
        self
    }

    /// Whether the leaf at a position is frozen.
    #[must_use]
    pub fn is_frozen(&self, index: usize) -> bool {
        self.handles.get(index).is_some_and(Handle::is_frozen)
    }

    /// Applies `f` at every position that has a tensor.
    ///
    /// The results are not copied and may share storage with the argument of `f`: they are for temporaries
    /// (gradients, updates). [`store`](Self::store) copies them into a tree.
    ///
    /// # Errors
    /// The first error of `f`, with its path.
    pub fn apply(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        self.rebuild(|index| self.get(index).map(&mut f).transpose())
    }

    /// Applies `f` at every position that has a tensor in both; the others become empty. As in
    /// [`apply`](Self::apply), the results are not copied.
    ///
    /// # Errors
    /// If the leaves of `other` differ; the first error of `f`, with its path.
    pub fn combine(
        &self,
        other: &Self,
        mut f: impl FnMut(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        self.check_aligned(other, "the other flat tree")?;
        self.rebuild(|index| match (self.get(index), other.get(index)) {
            (Some(a), Some(b)) => f(a, b).map(Some),
            _ => Ok(None),
        })
    }

    /// The same positions with other tensors, or none. As in [`apply`](Self::apply), they are not copied.
    ///
    /// # Errors
    /// The first error of `at`, with its path.
    pub fn rebuild(&self, mut at: impl FnMut(usize) -> Result<Option<Tensor>>) -> Result<Self> {
        let handles = (0..self.len()).map(|index| match at(index) {
            Ok(tensor) => {
                let mut handle = tensor.map_or_else(Handle::nothing, Handle::from_shared);
                handle.set_frozen(self.handles[index].is_frozen());
                Ok(handle)
            }
            Err(error) => Err(error.at(self.layout.paths.get(index))),
        });
        Ok(Self { layout: Arc::clone(&self.layout), handles: handles.collect::<Result<_>>()? })
    }

    /// Writes `values` into the cells of this tree, in place where it is their only holder. Where `values` is
    /// empty, this tree is unchanged.
    ///
    /// # Errors
    /// If the leaves of `values` differ.
    pub fn store(&mut self, values: &Self) -> Result<()> {
        self.check_aligned(values, "the flat tree of values")?;
        for (handle, value) in self.handles.iter_mut().zip(&values.handles) {
            if let Some(value) = value.value() {
                handle.write(value)?;
            }
        }
        Ok(())
    }

    /// Checks that `other` has the same leaves; `what` names it in the error.
    ///
    /// # Errors
    /// The first leaf that differs.
    pub fn check_aligned(&self, other: &Self, what: &str) -> Result<()> {
        if Arc::ptr_eq(&self.layout, &other.layout) { Ok(()) } else { self.layout.check(other, what) }
    }

    pub(crate) fn check_structure<T: TreeObject>(&self, tree: &T, what: &str) -> Result<()> {
        self.layout.check(tree, what)
    }

    /// Writes the leaves into a tree of the same structure. Cells are shared; temporaries are copied.
    pub(crate) fn write_into<T: TreeObject>(&self, tree: &mut T) -> Result<()> {
        self.layout.check(tree, "the tree to unflatten into")?;
        let mut handles = self.handles.iter();
        try_walk_mut(tree, |_, _, leaf| {
            if let Some(handle) = handles.next() {
                leaf.replace(handle.to_owned_storage()?);
            }
            Ok(())
        })
    }
}

/// Each leaf is a child of this node, at its whole path.
impl TreeObject for Leaves {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        for ((path, &kind), handle) in self.layout.paths.iter().zip(&self.layout.kinds).zip(&self.handles) {
            visitor.child(ChildInfo::new(path).with_kind(kind), handle);
        }
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        for ((path, &kind), handle) in self.layout.paths.iter().zip(&self.layout.kinds).zip(&mut self.handles)
        {
            visitor.child(ChildInfo::new(path).with_kind(kind), handle);
        }
    }
}

/// A leaf whose kind comes from the [`ChildInfo`] above it.
impl TreeObject for Handle {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.leaf(KindTag::of::<TreePart>(), self);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        visitor.leaf(KindTag::of::<TreePart>(), self);
    }
}

impl PartialEq for Leaves {
    fn eq(&self, other: &Self) -> bool {
        self.layout == other.layout && self.handles.iter().zip(&other.handles).all(|(a, b)| a.same(b))
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|leaf| (Path::from(leaf.segments()).to_string(), leaf.handle())))
            .finish()
    }
}
