//! Filters: composable predicates over leaves.
//!
//! A filter always *selects the leaves that a method acts on*: `filter(f)` keeps what `f` selects,
//! `freeze(f)` freezes it, an optimizer's `wrt(f)` trains it.
//!
//! ```
//! use treex_core::{BatchStat, Filter, Parameter, Rng, State, by, exactly, path};
//!
//! let encoder = Parameter & path("encoder.**"); // both
//! let state = BatchStat | Rng; // either; the same as the tuple (BatchStat, Rng)
//! let sub_kinds = State & !exactly(State); // kinds below `State`, not `State` itself
//! let matrices = Parameter & by(|leaf| leaf.rank() > Some(1));
//! assert_eq!(format!("{encoder:?}"), "Parameter & path(\"encoder.**\")");
//! # let _ = (state, sub_kinds, matrices);
//! ```

use std::fmt;
use std::marker::PhantomData;

use candle_core::{DType, Shape, Tensor};

use crate::tree::handle::Handle;
use crate::tree::kind::{Kind, KindTag};
use crate::tree::path::{Dotted, Path, Segment};

/// A predicate over leaves. Every [`Kind`] is one, so are tuples of filters (or), `&`, `|` and `!` of
/// filters, [`path`], [`exactly`] and [`by`]. There are no operators on tuples: write `!(A | B)`.
pub trait Filter {
    /// Whether this leaf is selected.
    fn selects(&self, leaf: &LeafRef<'_>) -> bool;

    /// Writes this filter for `Debug` and error messages.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<Self>())
    }
}

/// `Display` of a filter, for errors.
pub(crate) struct Described<'a, F: ?Sized>(pub(crate) &'a F);

impl<F: Filter + ?Sized> fmt::Display for Described<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f)
    }
}

/// A leaf as a filter sees it: path, kind and content.
#[derive(Clone, Copy)]
pub struct LeafRef<'a> {
    path: &'a [Segment],
    kind: KindTag,
    handle: &'a Handle,
}

impl<'a> LeafRef<'a> {
    pub(crate) fn new(path: &'a [Segment], kind: KindTag, handle: &'a Handle) -> Self {
        Self { path, kind, handle }
    }

    /// The segments from the root to the leaf.
    #[must_use]
    pub fn segments(&self) -> &'a [Segment] {
        self.path
    }

    /// The path from the root to the leaf.
    #[must_use]
    pub fn path(&self) -> Path {
        Path::from(self.path)
    }

    /// The kind, after re-tagging by `#[tree(kind = ...)]` above it.
    #[must_use]
    pub fn kind(&self) -> KindTag {
        self.kind
    }

    /// The shape of the value, or that declared by the initializer.
    #[must_use]
    pub fn shape(&self) -> Option<&'a Shape> {
        self.handle.shape()
    }

    /// The number of dimensions: `by(|leaf| leaf.rank() > Some(1))` selects matrices and more.
    #[must_use]
    pub fn rank(&self) -> Option<usize> {
        self.shape().map(Shape::rank)
    }

    /// The element type of the value, or that declared by the initializer.
    #[must_use]
    pub fn dtype(&self) -> Option<DType> {
        self.handle.dtype()
    }

    /// The detached value, if any.
    #[must_use]
    pub fn value(&self) -> Option<&'a Tensor> {
        self.handle.value()
    }

    /// Whether the leaf is frozen: `by(|leaf| leaf.is_frozen())` selects the leaves that `freeze` excluded from
    /// training.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.handle.is_frozen()
    }

    pub(crate) fn handle(&self) -> &'a Handle {
        self.handle
    }
}

/// A writable leaf, with its path and kind.
#[derive(Debug)]
pub struct LeafMut<'a> {
    path: Path,
    kind: KindTag,
    handle: &'a mut Handle,
}

impl<'a> LeafMut<'a> {
    pub(crate) fn new(path: &[Segment], kind: KindTag, handle: &'a mut Handle) -> Self {
        Self { path: Path::from(path), kind, handle }
    }

    /// The path from the root to the leaf.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The leaf as a filter sees it.
    #[must_use]
    pub fn as_ref(&self) -> LeafRef<'_> {
        LeafRef::new(self.path.segments(), self.kind, self.handle)
    }

    /// The leaf's handle, which can be [written](Handle::write).
    pub fn handle(&mut self) -> &mut Handle {
        self.handle
    }
}

/// Prints `layers.0.kernel: Parameter = array[784, 256] f32`.
impl fmt::Debug for LeafRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} = {:?}", Dotted(self.path), self.kind, self.handle)
    }
}

/// A kind selects itself and the kinds below it.
impl<K: Kind> Filter for K {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        leaf.kind().is(KindTag::of::<K>())
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::NAME)
    }
}

/// Declares a filter type with its operators and its `Debug`.
macro_rules! filter_type {
    ($(#[$meta:meta])* $name:ident<$($generic:ident),*>($($field:ty),*)) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub struct $name<$($generic),*>($($field),*);

        impl<$($generic),*> fmt::Debug for $name<$($generic),*> where Self: Filter {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.describe(f)
            }
        }

        $crate::__filter_operators!($name<$($generic),*>);
    };
}

/// `&`, `|` and `!` for one filter type.
#[doc(hidden)]
#[macro_export]
macro_rules! __filter_operators {
    ($name:ident $(<$($generic:ident),*>)?) => {
        impl<$($($generic,)*)? RhsFilter> ::std::ops::BitAnd<RhsFilter> for $name $(<$($generic),*>)? {
            type Output = $crate::And<Self, RhsFilter>;
            fn bitand(self, rhs: RhsFilter) -> Self::Output {
                $crate::And::new(self, rhs)
            }
        }

        impl<$($($generic,)*)? RhsFilter> ::std::ops::BitOr<RhsFilter> for $name $(<$($generic),*>)? {
            type Output = $crate::Or<Self, RhsFilter>;
            fn bitor(self, rhs: RhsFilter) -> Self::Output {
                $crate::Or::new(self, rhs)
            }
        }

        impl $(<$($generic),*>)? ::std::ops::Not for $name $(<$($generic),*>)? {
            type Output = $crate::Negated<Self>;
            fn not(self) -> Self::Output {
                $crate::Negated::new(self)
            }
        }
    };
}

filter_type!(
    /// Leaves that both select: `a & b`.
    And<A, B>(A, B)
);
filter_type!(
    /// Leaves that either selects: `a | b`.
    Or<A, B>(A, B)
);
filter_type!(
    /// Leaves that `f` does not select: `!f`.
    Negated<F>(F)
);
filter_type!(
    /// A kind without the kinds below it; see [`exactly`].
    Exactly<K>(PhantomData<fn() -> K>)
);
filter_type!(
    /// A closure as a filter; see [`by`].
    By<F>(F)
);

impl<A, B> And<A, B> {
    #[doc(hidden)]
    pub fn new(a: A, b: B) -> Self {
        Self(a, b)
    }
}

impl<A, B> Or<A, B> {
    #[doc(hidden)]
    pub fn new(a: A, b: B) -> Self {
        Self(a, b)
    }
}

impl<F> Negated<F> {
    #[doc(hidden)]
    pub fn new(f: F) -> Self {
        Self(f)
    }
}

impl<A: Filter, B: Filter> Filter for And<A, B> {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        self.0.selects(leaf) && self.1.selects(leaf)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f)?;
        f.write_str(" & ")?;
        self.1.describe(f)
    }
}

impl<A: Filter, B: Filter> Filter for Or<A, B> {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        self.0.selects(leaf) || self.1.selects(leaf)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        self.0.describe(f)?;
        f.write_str(" | ")?;
        self.1.describe(f)?;
        f.write_str(")")
    }
}

impl<F: Filter> Filter for Negated<F> {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        !self.0.selects(leaf)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("!(")?;
        self.0.describe(f)?;
        f.write_str(")")
    }
}

/// Selects leaves of kind `K` itself, not of the kinds below it.
#[must_use]
pub fn exactly<K: Kind>(_kind: K) -> Exactly<K> {
    Exactly(PhantomData)
}

impl<K: Kind> Filter for Exactly<K> {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        leaf.kind() == KindTag::of::<K>()
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exactly({})", K::NAME)
    }
}

/// Selects the leaves for which `predicate` holds.
pub fn by<F: Fn(&LeafRef<'_>) -> bool>(predicate: F) -> By<F> {
    By(predicate)
}

impl<F: Fn(&LeafRef<'_>) -> bool> Filter for By<F> {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        (self.0)(leaf)
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("by(..)")
    }
}

/// Selects leaves by path; see [`path`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PathGlob(Vec<String>);

crate::__filter_operators!(PathGlob);

impl fmt::Debug for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

/// Selects leaves whose path matches `glob`, segment by segment: `*` matches any one segment, or
/// any part of one (`layers.*.ker*`), `**` any number of segments. `path("enc")` does not select
/// `enc2.kernel`, nor `enc.kernel`: everything below `enc` is `path("enc.**")`.
///
/// ```
/// use treex_core::{Leaf, Parameter, path, prelude::*};
/// # use candle_core::{DType, Device, Tensor};
/// # let zeros = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
/// # let leaf = Leaf::<Parameter>::new(&zeros)?;
/// let layers = vec![leaf.clone(), leaf.clone(), leaf];
/// assert_eq!(layers.count(path("*")), 3);
/// assert_eq!(layers.count(path("1")), 1);
/// assert_eq!(layers.count(path("1.**")), 1); // `**` also matches no segment
/// # Ok::<(), treex_core::Error>(())
/// ```
pub fn path(glob: impl AsRef<str>) -> PathGlob {
    PathGlob(glob.as_ref().split('.').map(str::to_owned).collect())
}

impl Filter for PathGlob {
    fn selects(&self, leaf: &LeafRef<'_>) -> bool {
        matches_path(&self.0, leaf.segments())
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path({:?})", self.0.join("."))
    }
}

fn matches_path(glob: &[String], path: &[Segment]) -> bool {
    match (glob.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((head, rest)), _) if head == "**" => {
            (0..=path.len()).any(|skipped| matches_path(rest, &path[skipped..]))
        }
        (Some((head, rest)), Some((segment, below))) => {
            matches_segment(head, segment) && matches_path(rest, below)
        }
        _ => false,
    }
}

fn matches_segment(glob: &str, segment: &Segment) -> bool {
    match segment {
        _ if glob == "*" => true,
        Segment::Field(name) => matches_text(glob, name),
        Segment::Key(key) => matches_text(glob, key),
        Segment::Index(index) => glob.parse() == Ok(*index),
    }
}

fn matches_text(glob: &str, text: &str) -> bool {
    match glob.split_once('*') {
        None => glob == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len()).filter(|&at| text.is_char_boundary(at)).any(|at| matches_text(rest, &text[at..]))
        }),
    }
}

macro_rules! tuple_filter {
    ($($name:ident $index:tt),*) => {
        /// A tuple selects what any of its members selects.
        impl<$($name: Filter),*> Filter for ($($name,)*) {
            fn selects(&self, leaf: &LeafRef<'_>) -> bool {
                $(self.$index.selects(leaf))||*
            }

            fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("(")?;
                $(self.$index.describe(f)?; f.write_str(", ")?;)*
                f.write_str(")")
            }
        }
    };
}

tuple_filter!(A 0, B 1);
tuple_filter!(A 0, B 1, C 2);
tuple_filter!(A 0, B 1, C 2, D 3);
