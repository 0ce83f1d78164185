//! Flat trees: the leaves in order, with their paths, apart from the struct they came from.

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

/// Which leaves a tree has: paths and kinds, in field order.
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

    /// Whether `tree` has these leaves; `what` names it in the error.
    pub(crate) fn check<T: TreeObject + ?Sized>(&self, tree: &T, what: &str) -> Result<()> {
        self.check_each(tree, what, |_| ())
    }

    /// [`check`](Self::check), which shows each leaf to `each` on its way.
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
        Err(Error::new(ErrorKind::Structure, format!("{what} has another structure, from leaf {at} on"))
            .at(path)
            .expected(expected)
            .found(found)
            .remedy("both trees must have the same fields, `Vec` lengths and variants; start from a clone"))
    }
}

fn describe(path: &[Segment], kind: KindTag) -> String {
    format!("`{}` of kind `{kind}`", Dotted(path))
}

/// A flat tree: a path, a kind, and a tensor or nothing at each position. Two flat trees of the same model
/// align position by position, whatever the model's type.
///
/// It is a tree itself, so it can be a part of others (an optimizer's moments), with the paths of the
/// model it came from.
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

    /// The leaves of `tree`, untracked, which the error calls `what`: as its `flatten`, but by comparing with
    /// the positions of this one, which costs less.
    ///
    /// # Errors
    /// If `tree` has other leaves; the error names the first that differs.
    pub fn gather<T: TreeObject + ?Sized>(&self, tree: &T, what: &str) -> Result<Self> {
        let mut handles = Vec::with_capacity(self.len());
        self.layout.check_each(tree, what, |leaf| handles.push(leaf.untracked()))?;
        Ok(Self { layout: Arc::clone(&self.layout), handles })
    }

    /// Empties every position for which `keep` is false.
    ///
    /// # Errors
    /// The first that `keep` reports, with its path.
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

    /// The number of positions, empty ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether there are no positions at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// What stands at each position, empty ones included.
    pub fn iter(&self) -> impl Iterator<Item = LeafRef<'_>> {
        let paths = self.layout.paths.iter();
        paths
            .zip(&self.layout.kinds)
            .zip(&self.handles)
            .map(|((path, &kind), leaf)| LeafRef::new(path, kind, leaf))
    }

    /// The tensor at a position, or `None` if there is nothing.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Tensor> {
        self.handles.get(index).and_then(Handle::tracked_value)
    }

    /// [`Handle::storage`] of what stands at a position.
    #[must_use]
    pub fn storage(&self, index: usize) -> Option<usize> {
        self.handles.get(index).and_then(Handle::storage)
    }

    /// The path to a position, as segments.
    #[must_use]
    pub fn path(&self, index: usize) -> &[Segment] {
        if index < self.len() { self.layout.paths.get(index) } else { &[] }
    }

    /// The leaves without their paths and kinds, for writing.
    pub fn handles_mut(&mut self) -> &mut [Handle] {
        &mut self.handles
    }

    /// The tensors that there are, in order.
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
    /// The results are not copied and may share storage with what `f` got: this is for what is on its way
    /// (gradients, updates). [`store`](Self::store) keeps them.
    ///
    /// # Errors
    /// The first that `f` reports, with its path.
    pub fn apply(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        self.rebuild(|index| self.get(index).map(&mut f).transpose())
    }

    /// Applies `f` at every position that has a tensor in both; the others become empty. Results are not
    /// copied, as with [`apply`](Self::apply).
    ///
    /// # Errors
    /// If `other` has other leaves, and the first error that `f` reports, with its path.
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

    /// The same positions with other tensors, or none. They are not copied, as with [`apply`](Self::apply).
    ///
    /// # Errors
    /// The first that `at` reports, with its path.
    pub fn rebuild(&self, mut at: impl FnMut(usize) -> Result<Option<Tensor>>) -> Result<Self> {
        let handles = (0..self.len()).map(|index| match at(index) {
            Ok(tensor) => {
                let mut handle = tensor.map_or_else(Handle::nothing, Handle::from_shared);
                handle.frozen = self.handles[index].frozen;
                Ok(handle)
            }
            Err(error) => Err(error.at(self.layout.paths.get(index))),
        });
        Ok(Self { layout: Arc::clone(&self.layout), handles: handles.collect::<Result<_>>()? })
    }

    /// Writes `values` into the cells of this tree, in place where it is their only holder. An empty
    /// position of `values` leaves what is here.
    ///
    /// # Errors
    /// If `values` has other leaves.
    pub fn store(&mut self, values: &Self) -> Result<()> {
        self.check_aligned(values, "the flat tree of values")?;
        for (handle, value) in self.handles.iter_mut().zip(&values.handles) {
            if let Some(value) = value.value() {
                handle.write(value)?;
            }
        }
        Ok(())
    }

    /// Whether `other`, which the error calls `what`, has the same leaves.
    ///
    /// # Errors
    /// If it does not; the error names the first that differs.
    pub fn check_aligned(&self, other: &Self, what: &str) -> Result<()> {
        if Arc::ptr_eq(&self.layout, &other.layout) { Ok(()) } else { self.layout.check(other, what) }
    }

    pub(crate) fn check_structure<T: TreeObject>(&self, tree: &T, what: &str) -> Result<()> {
        self.layout.check(tree, what)
    }

    /// Puts the leaves into a tree of the same structure. Cells are shared, and what is only on its way here is
    /// copied.
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

/// Each leaf hangs at its whole path, below this node.
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

/// A leaf whose kind the edge above says.
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
