//! Initialization: from a seed to values, in a fixed order of keys.
//!
//! Keys come from a chain of splits, `(used, next) = split(key)`. First each [`Initializer`] leaf takes one, in field
//! order; then each uninitialized module, children before parents, whether or not it uses the key. From the key of a
//! module, Flax's rule derives those of its own [`Leaf::param`](crate::Leaf::param) leaves, parameters first, and of
//! its `module_init`.
//!
//! [`init_linen`](crate::Tree::init_linen) derives keys from names instead of this order: see
//! [`linen`].

pub mod blocks;
pub mod initializer;
pub mod linen;
pub mod module_key;
pub(crate) mod shape_inference;
pub(crate) mod shape_probe;

use std::collections::VecDeque;

use candle_core::{Device, Tensor};

use self::initializer::{InitPhase, Initializer};
use self::module_key::ModuleKey;
use crate::error::Result;
use crate::random::Key;
use crate::random::stream::{PARAMS, Rngs, scope_name};
use crate::size;
use crate::tree::handle::Handle;
use crate::tree::kind::{KindTag, OptState, Parameter, Rng};
use crate::tree::object::{ChildInfo, TreeObject, Visitor, VisitorMut};
use crate::tree::path::Path;
use crate::tree::walk::{try_walk_mut, walk};

/// Where keys come from.
pub(crate) enum Source {
    /// A chain of splits.
    Chain(Key),
    /// The paths of the modules.
    Linen(Rngs),
    /// The paths of the modules, in one of several blocks.
    Scanned(Rngs),
    /// None: values are zeros, and leaves of unknown shape stay uninitialized.
    Zeros(Device),
}

impl Source {
    fn next(&mut self) -> Key {
        match self {
            Self::Chain(key) => {
                let [used, next] = key.split2();
                *key = next;
                used
            }
            Self::Linen(rngs) | Self::Scanned(rngs) => rngs.key(PARAMS),
            Self::Zeros(_) => Key::from(0),
        }
    }

    /// The key of the module at `path`.
    fn module(&mut self, path: &Path) -> ModuleKey {
        let rngs = match self {
            Self::Linen(rngs) | Self::Scanned(rngs) => Some(rngs.clone()),
            _ => None,
        };
        let scope = if rngs.is_some() { scope_name(path.segments()) } else { String::new() };
        let path = path.clone();
        ModuleKey { root: self.next(), rngs, path, scope, counter: 0, drawn_from: Vec::new() }
    }

    /// The value of the leaf at `path`, in the module with this key, or `None` if it stays uninitialized.
    fn value(&self, initializer: &Initializer, key: &mut ModuleKey, path: &Path) -> Result<Option<Tensor>> {
        match (self, initializer.phase(), initializer.stream_name()) {
            (_, InitPhase::Never, _) => Ok(None),
            (Self::Linen(rngs) | Self::Scanned(rngs), _, Some(stream)) => {
                let mut start = rngs.start(stream, &key.scope);
                if key.drawn_from.contains(&start.root) {
                    start = rngs.start(stream, &scope_name(path.segments()));
                } else {
                    key.drawn_from.push(start.root);
                }
                start.to_tensor().map(Some)
            }
            (Self::Zeros(device), InitPhase::Module, _) => {
                let known = initializer.shape().zip(initializer.dtype());
                known.map(|(shape, dtype)| size::zeros(shape, dtype, device)).transpose()
            }
            _ => initializer.call(&key.make_rng()).map(Some),
        }
    }
}

/// Whether every leaf has a value.
pub(crate) fn is_initialized<T: TreeObject + ?Sized>(tree: &T) -> bool {
    let mut initialized = true;
    walk(tree, |_, _, leaf| initialized &= leaf.initializer().is_none());
    initialized
}

/// Fills every uninitialized leaf of `tree` and moves all leaves but keys to `device`.
pub(crate) fn init<T: TreeObject>(tree: &mut T, source: Source, device: &Device) -> Result<()> {
    fill(tree, source)?;
    try_walk_mut(tree, |_, kind, leaf| match leaf.initializer() {
        Some(initializer) if initializer.phase() == InitPhase::Never => {
            leaf.get(kind).map(drop).map_err(|error| {
                error.remedy("write it in `module_init`, and mark the struct `#[tree(module_init)]`")
            })
        }
        Some(_) => leaf.get(kind).map(drop),
        None => Ok(()),
    })?;
    to_device(tree, device)
}

/// Fills the leaves that `source` can fill.
pub(crate) fn fill<T: TreeObject>(tree: &mut T, source: Source) -> Result<()> {
    fill_at(tree, source, Path::default())
}

/// [`fill`] for the tree at `path` of another.
fn fill_at<T: TreeObject>(tree: &mut T, mut source: Source, path: Path) -> Result<()> {
    let mut plan = InitPlan::default();
    plan.child(ChildInfo::new(&[]), &*tree);
    if let Source::Chain(_) = source {
        try_walk_mut(tree, |_, _, leaf| {
            if let Some(initializer) = leaf.initializer().filter(|leaf| leaf.phase() == InitPhase::Tree) {
                let value = Handle::from_copy(&initializer.call(&source.next())?)?;
                leaf.replace(value);
            }
            Ok(())
        })?;
    }
    let mut turns =
        InitVisitor { source, pending: plan.pending, inherited: true, path: path.clone(), result: Ok(()) };
    turns.child(ChildInfo::new(&[]), tree);
    turns.result?;
    // Leaves outside any module, as in a tuple of leaves: the root acts as their module.
    if is_initialized(tree) {
        return Ok(());
    }
    let mut key = turns.source.module(&path);
    fill_own_leaves(tree, &turns.source, &mut key, &path)
}

/// Moves every value to `device`, except random keys and an optimizer's counts, which the host reads.
pub(crate) fn to_device<T: TreeObject + ?Sized>(tree: &mut T, device: &Device) -> Result<()> {
    try_walk_mut(tree, |_, kind, leaf| {
        let counts = leaf.value().is_some_and(|value| value.rank() == 0 && value.dtype().is_int());
        let on_host = kind.is(KindTag::of::<Rng>()) || kind.is(KindTag::of::<OptState>()) && counts;
        if on_host { Ok(()) } else { leaf.move_to(device) }
    })
}

/// Whether each module is uninitialized, in traversal order. `None` for a module without leaves: its parent decides.
#[derive(Default)]
struct InitPlan {
    pending: VecDeque<Option<bool>>,
    leaves: usize,
    uninitialized: usize,
}

impl<'a> Visitor<'a> for InitPlan {
    fn leaf(&mut self, _: KindTag, leaf: &'a Handle) {
        self.leaves += usize::from(!leaf.is_nothing());
        self.uninitialized += usize::from(leaf.initializer().is_some());
    }

    fn child(&mut self, _: ChildInfo<'_>, child: &'a dyn TreeObject) {
        if child.module_name().is_none() {
            return child.visit(self);
        }
        let (index, leaves, uninitialized) = (self.pending.len(), self.leaves, self.uninitialized);
        self.pending.push_back(None);
        child.visit(self);
        if self.leaves > leaves {
            self.pending[index] = Some(self.uninitialized > uninitialized);
        }
    }
}

/// Initializes each uninitialized module, children first.
struct InitVisitor {
    source: Source,
    pending: VecDeque<Option<bool>>,
    inherited: bool,
    path: Path,
    result: Result<()>,
}

impl<'a> VisitorMut<'a> for InitVisitor {
    fn leaf(&mut self, _: KindTag, _: &'a mut Handle) {}

    fn child(&mut self, edge: ChildInfo<'_>, child: &'a mut dyn TreeObject) {
        let depth = self.path.segments().len();
        self.path.extend(edge.path);
        if child.module_name().is_none() {
            child.visit_mut(self);
        } else {
            let outer = self.inherited;
            let is_pending = self.pending.pop_front().flatten().unwrap_or(outer);
            self.inherited = is_pending;
            child.visit_mut(self);
            self.inherited = outer;
            if is_pending && self.result.is_ok() {
                let mut key = self.source.module(&self.path);
                let done = fill_own_leaves(child, &self.source, &mut key, &self.path)
                    .and_then(|()| child.initialize_module(&mut key));
                self.result = done.map_err(|error| error.at(self.path.segments()));
            }
        }
        self.path.truncate(depth);
    }
}

/// Fills the own leaves of a module, parameters first, since the key that Flax derives for a parameter does not
/// depend on the module's state.
fn fill_own_leaves(
    module: &mut dyn TreeObject,
    source: &Source,
    key: &mut ModuleKey,
    path: &Path,
) -> Result<()> {
    if let Source::Scanned(_) = source {
        key.counter = count_own_parameters(module);
    }
    for parameters in [true, false] {
        let mut own = OwnLeaves { parameters, source, key, path: path.clone(), result: Ok(()) };
        module.visit_mut(&mut own);
        own.result?;
    }
    Ok(())
}

fn count_own_parameters(module: &dyn TreeObject) -> u32 {
    struct Count(u32);

    impl<'a> Visitor<'a> for Count {
        fn leaf(&mut self, kind: KindTag, leaf: &'a Handle) {
            self.0 += u32::from(kind.is(KindTag::of::<Parameter>()) && leaf.initializer().is_some());
        }

        fn child(&mut self, _: ChildInfo<'_>, child: &'a dyn TreeObject) {
            if child.module_name().is_none() {
                child.visit(self);
            }
        }
    }

    let mut count = Count(0);
    module.visit(&mut count);
    count.0
}

/// Fills either the parameters of a module or its other leaves: those in its containers, but not in its sub-modules.
struct OwnLeaves<'k> {
    parameters: bool,
    source: &'k Source,
    key: &'k mut ModuleKey,
    path: Path,
    result: Result<()>,
}

impl OwnLeaves<'_> {
    fn fill(&mut self, leaf: &mut Handle) -> Result<()> {
        let Some(initializer) = leaf.initializer() else { return Ok(()) };
        if let Some(value) = self.source.value(initializer, self.key, &self.path)? {
            leaf.replace(Handle::from_copy(&value)?);
        }
        Ok(())
    }
}

impl<'a> VisitorMut<'a> for OwnLeaves<'_> {
    fn leaf(&mut self, kind: KindTag, leaf: &'a mut Handle) {
        if self.result.is_ok() && kind.is(KindTag::of::<Parameter>()) == self.parameters {
            self.result = self.fill(leaf).map_err(|error| error.at(self.path.segments()));
        }
    }

    fn child(&mut self, edge: ChildInfo<'_>, child: &'a mut dyn TreeObject) {
        if child.module_name().is_none() {
            let depth = self.path.segments().len();
            self.path.extend(edge.path);
            child.visit_mut(self);
            self.path.truncate(depth);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Shape, Tensor};

    use super::*;
    use crate::init::initializer::Initializer;
    use crate::random::stream::derive;
    use crate::tree::kind::Parameter;
    use crate::tree::leaf::Leaf;
    use crate::tree::verbs::Tree;

    /// A leaf whose value is its key, which shows the order.
    fn from_chain() -> Leaf<Parameter> {
        Initializer::new(|key| key.to_tensor()).into()
    }

    fn param() -> Leaf<Parameter> {
        Leaf::param(|key: &Key, _: &Shape, _| key.to_tensor(), 2, DType::U32)
    }

    fn words(leaf: &Leaf<Parameter>) -> [u32; 2] {
        Key::from_tensor(&leaf.get().unwrap()).unwrap().words()
    }

    #[derive(Clone, crate::TreeObject)]
    struct Root {
        z: Leaf<Parameter>,
        layers: Vec<Layer>,
        a: Leaf<Parameter>,
        silent: Silent,
        last: (Leaf<Parameter>, Leaf<Parameter>),
    }

    #[derive(Clone, crate::TreeObject)]
    struct Layer {
        kernel: Leaf<Parameter>,
        own: Leaf<Parameter>,
        bias: Option<Leaf<Parameter>>,
    }

    #[derive(Clone, crate::TreeObject)]
    struct Silent;

    fn layer() -> Layer {
        Layer { kernel: param(), own: from_chain(), bias: Some(param()) }
    }

    #[test]
    fn own_initializers_first_then_modules_children_first() {
        let root = Root {
            z: from_chain(),
            layers: vec![layer(), layer()],
            a: from_chain(),
            silent: Silent,
            last: (param(), param()),
        };
        let root = root.init(42, &Device::Cpu).unwrap();
        let mut chain = Source::Chain(Key::from(42));
        for leaf in [&root.z, &root.layers[0].own, &root.layers[1].own, &root.a] {
            assert_eq!(words(leaf), chain.next().words());
        }
        for layer in &root.layers {
            let key = chain.next();
            assert_eq!(words(&layer.kernel), derive(key, "", 1).words());
            assert_eq!(words(layer.bias.as_ref().unwrap()), derive(key, "", 2).words());
        }
        chain.next(); // the module without leaves takes one too
        let key = chain.next();
        assert_eq!(words(&root.last.0), derive(key, "", 1).words());
        assert_eq!(words(&root.last.1), derive(key, "", 2).words());
    }

    #[test]
    fn initialized_modules_take_no_key() {
        let trained = layer().init(7, &Device::Cpu).unwrap();
        let root = Root {
            z: Leaf::new(Tensor::new(&[1u32, 2], &Device::Cpu).unwrap()).unwrap(),
            layers: vec![trained.clone(), layer()],
            a: from_chain(),
            silent: Silent,
            last: (param(), Leaf::nothing()),
        };
        let root = root.init(42, &Device::Cpu).unwrap();
        let mut chain = Source::Chain(Key::from(42));
        assert_eq!(words(&root.layers[0].kernel), words(&trained.kernel));
        assert_eq!((words(&root.z), words(&root.layers[1].own)), ([1, 2], chain.next().words()));
        assert_eq!(words(&root.a), chain.next().words());
        assert_eq!(words(&root.layers[1].kernel), derive(chain.next(), "", 1).words());
        chain.next();
        assert_eq!(words(&root.last.0), derive(chain.next(), "", 1).words());
    }

    #[test]
    fn leaves_without_a_module_belong_to_the_root() {
        let pair = (param(), from_chain()).init(42, &Device::Cpu).unwrap();
        let mut chain = Source::Chain(Key::from(42));
        assert_eq!(words(&pair.1), chain.next().words());
        assert_eq!(words(&pair.0), derive(chain.next(), "", 1).words());
    }
}
