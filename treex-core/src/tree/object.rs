//! The protocol of trees: a type shows its children, for reading and for writing. Everything else is
//! written once, on top of it.

use crate::error::Result;
use crate::init::module_key::ModuleKey;
use crate::tree::handle::Handle;
use crate::tree::kind::KindTag;
use crate::tree::mode::Mode;
use crate::tree::path::{ModuleId, Segment};

/// A type that is a tree: a leaf, a struct or an enum of trees, a container of trees, or a constant.
///
/// Derive it: `#[derive(Clone, Debug, TreeObject)]`. The verbs over trees are in [`Tree`](crate::Tree),
/// which every `TreeObject` has.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in a tree",
    label = "not a leaf, a tree or a constant",
    note = "if it holds tensors that belong to the model, give it a kind: `Leaf<Parameter>`, `Leaf<State>`, ...",
    note = "if it is a type of your own with such fields, derive `TreeObject` for it",
    note = "if it is not a part of the tree, mark the field `#[tree(skip)]`"
)]
pub trait TreeObject: Send + Sync {
    /// Shows this to `visitor`: a leaf shows itself, a node each child in field order, a constant nothing.
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>);

    /// The same for writing; the order is the same.
    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>);

    /// What this is called and where it stands, if it is a module: a struct of one's own, not a leaf, a
    /// container or a constant. A `Box` and its like answer for what is in them.
    fn identity(&self) -> Option<ModuleId> {
        None
    }

    /// The name, if this is a module.
    fn module_name(&self) -> Option<&'static str> {
        self.identity().map(|module| module.name)
    }

    /// Called by `init` on a module that was not initialized, after its children and its own leaves.
    /// `#[tree(module_init)]` on a struct makes the derive call the struct's own `module_init` here.
    ///
    /// # Errors
    /// Whatever the module reports.
    fn initialize_module(&mut self, _key: &mut ModuleKey) -> Result<()> {
        Ok(())
    }

    /// What the derive casts a field by, so that a missing implementation is reported at the field's type.
    #[doc(hidden)]
    fn as_tree(&self) -> &dyn TreeObject
    where
        Self: Sized,
    {
        self
    }

    /// The same for writing.
    #[doc(hidden)]
    fn as_tree_mut(&mut self) -> &mut dyn TreeObject
    where
        Self: Sized,
    {
        self
    }
}

/// How a child hangs below its parent.
#[derive(Clone, Copy, Debug)]
pub struct ChildInfo<'e> {
    /// The segments from parent to child: usually one; none for `Box`, `Option` and the like.
    pub path: &'e [Segment],
    /// The kind that everything below takes, from `#[tree(kind = ...)]`.
    pub kind: Option<KindTag>,
}

impl<'e> ChildInfo<'e> {
    /// An edge that changes no kind.
    #[must_use]
    pub fn new(path: &'e [Segment]) -> Self {
        Self { path, kind: None }
    }

    /// Everything below takes this kind.
    #[must_use]
    pub fn with_kind(self, kind: KindTag) -> Self {
        Self { kind: Some(kind), ..self }
    }
}

/// What a tree shows itself to.
pub trait Visitor<'a> {
    /// A leaf of the given kind.
    fn leaf(&mut self, kind: KindTag, leaf: &'a Handle);
    /// A switch between training and evaluation.
    fn mode(&mut self, _mode: &'a Mode) {}
    /// A child; its `visit` goes on below.
    fn child(&mut self, edge: ChildInfo<'_>, child: &'a dyn TreeObject);
}

/// What a tree shows itself to for writing.
pub trait VisitorMut<'a> {
    /// A leaf of the given kind.
    fn leaf(&mut self, kind: KindTag, leaf: &'a mut Handle);
    /// A switch between training and evaluation.
    fn mode(&mut self, _mode: &'a mut Mode) {}
    /// A child; its `visit_mut` goes on below.
    fn child(&mut self, edge: ChildInfo<'_>, child: &'a mut dyn TreeObject);
}
