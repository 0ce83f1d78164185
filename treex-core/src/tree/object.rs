//! The tree trait: a type passes its children to a visitor, for reading or for writing. Everything else is
//! written once, on top of it.

use crate::error::Result;
use crate::init::module_key::ModuleKey;
use crate::tree::handle::Handle;
use crate::tree::kind::KindTag;
use crate::tree::mode::Mode;
use crate::tree::path::{ModuleId, Segment};

/// A type that is a tree: a leaf, a struct or an enum of trees, a container of trees, or a constant.
///
/// Derive it: `#[derive(Clone, Debug, TreeObject)]`. The methods of trees are in [`Tree`](crate::Tree),
/// which every `TreeObject + Clone` implements.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a tree",
    label = "not a leaf, a tree or a constant",
    note = "if it holds tensors that belong to the model, give it a kind: `Leaf<Parameter>`, `Leaf<State>`, ...",
    note = "if it is a type of your own with such fields, derive `TreeObject` for it",
    note = "if it is not a part of the tree, mark the field `#[tree(skip)]`",
    note = "for a map, `BTreeMap` with string keys: the order of a `HashMap` or `HashSet` differs from run to run",
    note = "for `Arc`, `Rc`, `RefCell` or `Mutex`, the type inside: leaves share memory and are snapshots by themselves",
    note = "for a closure or `Box<dyn Fn>`, a function pointer or treex-nn's `Lambda`"
)]
pub trait TreeObject: Send + Sync {
    /// Passes to `visitor`: a leaf itself, a node each child in field order, a constant nothing.
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>);

    /// [`visit`](Self::visit) for writing, in the same order.
    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>);

    /// The name and address, if this is a module: a struct that derives `TreeObject`, not a leaf, a container or
    /// a constant. A `Box` or `Option` returns that of its content.
    fn identity(&self) -> Option<ModuleId> {
        None
    }

    /// The type name, if this is a module.
    fn module_name(&self) -> Option<&'static str> {
        self.identity().map(|module| module.name)
    }

    /// What this part of a tree is the state of, if the names and shapes of its leaves do not tell: an optimizer
    /// names its transformation. A checkpoint stores it, and is not loaded into another.
    fn origin(&self) -> Option<String> {
        None
    }

    /// Called by `init` on an uninitialized module, after its children and its own leaves.
    /// `#[tree(module_init)]` on a struct makes the derive call the struct's own `module_init` here.
    ///
    /// # Errors
    /// What `module_init` returns.
    fn initialize_module(&mut self, _key: &mut ModuleKey) -> Result<()> {
        Ok(())
    }

    /// Used by the derive on each field, so that a missing implementation is reported at the field's type.
    #[doc(hidden)]
    fn as_tree(&self) -> &dyn TreeObject
    where
        Self: Sized,
    {
        self
    }

    /// [`as_tree`](Self::as_tree) for writing.
    #[doc(hidden)]
    fn as_tree_mut(&mut self) -> &mut dyn TreeObject
    where
        Self: Sized,
    {
        self
    }
}

/// The edge from a parent to a child.
#[derive(Clone, Copy, Debug)]
pub struct ChildInfo<'e> {
    /// The segments from parent to child: usually one; none for `Box` and `Option`.
    pub path: &'e [Segment],
    /// The kind of every leaf below, from `#[tree(kind = ...)]`.
    pub kind: Option<KindTag>,
}

impl<'e> ChildInfo<'e> {
    /// An edge that changes no kind.
    #[must_use]
    pub fn new(path: &'e [Segment]) -> Self {
        Self { path, kind: None }
    }

    /// Re-tags every leaf below with `kind`.
    #[must_use]
    pub fn with_kind(self, kind: KindTag) -> Self {
        Self { kind: Some(kind), ..self }
    }
}

/// Receives the parts of a tree.
pub trait Visitor<'a> {
    /// A leaf of the given kind.
    fn leaf(&mut self, kind: KindTag, leaf: &'a Handle);
    /// A training or evaluation flag.
    fn mode(&mut self, _mode: &'a Mode) {}
    /// A child; call its `visit` to descend.
    fn child(&mut self, edge: ChildInfo<'_>, child: &'a dyn TreeObject);
}

/// Receives the parts of a tree for writing.
pub trait VisitorMut<'a> {
    /// A leaf of the given kind.
    fn leaf(&mut self, kind: KindTag, leaf: &'a mut Handle);
    /// A training or evaluation flag.
    fn mode(&mut self, _mode: &'a mut Mode) {}
    /// A child; call its `visit_mut` to descend.
    fn child(&mut self, edge: ChildInfo<'_>, child: &'a mut dyn TreeObject);
}
