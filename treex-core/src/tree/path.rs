//! Paths: the segments from the root to a leaf.

use std::fmt;
use std::sync::Arc;

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// A named field of a struct.
    Field(&'static str),
    /// An index in a `Vec`, an array or a tuple.
    Index(usize),
    /// A key of a `BTreeMap`.
    Key(Arc<str>),
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
            Self::Key(key) => f.write_str(key),
        }
    }
}

/// The path from the root of a tree to a leaf. Prints as `layers.0.kernel`; the root's is empty and
/// prints as `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Segment>);

impl Path {
    /// The segments from the root on.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The root's path, with capacity for the usual depth.
    pub(crate) fn root() -> Self {
        Self(Vec::with_capacity(8))
    }

    pub(crate) fn extend(&mut self, segments: &[Segment]) {
        self.0.extend_from_slice(segments);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

impl From<&[Segment]> for Path {
    fn from(segments: &[Segment]) -> Self {
        Self(segments.to_vec())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_segments(&self.0, f)
    }
}

/// Prints segments as text without allocating.
pub(crate) struct Dotted<'a>(pub(crate) &'a [Segment]);

impl fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_segments(self.0, f)
    }
}

fn write_segments(segments: &[Segment], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some((first, rest)) = segments.split_first() else { return f.write_str("*") };
    write!(f, "{first}")?;
    rest.iter().try_for_each(|segment| write!(f, ".{segment}"))
}

/// Many paths in one buffer, by which flat trees are aligned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    segments: Vec<Segment>,
    ends: Vec<usize>,
}

impl Paths {
    pub(crate) fn push(&mut self, path: &[Segment]) {
        self.segments.extend_from_slice(path);
        self.ends.push(self.segments.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, index: usize) -> &[Segment] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.segments[start..self.ends[index]]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[Segment]> {
        (0..self.len()).map(|index| self.get(index))
    }
}
/// Identifies a module of a tree while the tree is borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModuleId {
    /// The name of the type.
    pub name: &'static str,
    /// A module and its first field can have the same address, but never also the same name.
    address: usize,
}

impl ModuleId {
    /// Identifies `module`, whose type is called `name`.
    #[must_use]
    pub fn of<M>(module: &M, name: &'static str) -> Self {
        Self { name, address: std::ptr::from_ref(module).addr() }
    }
}
