//! The verbs: what can be done with any tree.

use std::path::Path as FilePath;

use candle_core::{DType, Device, Tensor, Var};

use super::filter::{Filter, LeafMut, LeafRef};
use super::flat::Leaves;
use super::handle::Handle;
use super::kind::{BatchStat, Cache, KindTag, Parameter};
use super::module::Module;
use super::object::TreeObject;
use super::path::Path;
use super::walk::{try_walk_mut, walk, walk_mut};
use super::{freeze, set_mode, update};
use crate::error::Result;
use crate::init::{self, Source, linen, shape_inference};
use crate::io::checkpoint::{self, Load, Report};
use crate::io::summary;
use crate::random::Key;
use crate::random::stream::Rngs;
use crate::transform::{grad, stack};

/// What can be done with any tree that can be cloned. Comes with `use treex_core::prelude::*`.
///
/// The laws, each a property test:
///
/// - `x.updated(&x.filter(f)) == x`, and `partition` gives two halves that update to the whole;
/// - `x.filter(f).filter(f) == x.filter(f)`;
/// - each leaf is selected by its kind, and by every kind above it, and by no other;
/// - `map` and `zip_map` keep the structure, and the identity gives back an equal tree that shares nothing;
/// - `x.unflatten(&x.flatten()) == x`; the order is the order of the fields.
pub trait Tree: TreeObject + Clone {
    /// The same tree with only the leaves that `filter` selects; every other leaf is `Nothing`.
    #[must_use]
    fn filter(&self, filter: impl Filter) -> Self {
        let mut kept = self.clone();
        walk_mut(&mut kept, |path, kind, leaf| {
            if !filter.selects(&LeafRef::new(path, kind, leaf)) {
                leaf.replace(Handle::nothing());
            }
        });
        kept
    }

    /// What `filter` selects, and the rest.
    #[must_use]
    fn partition(&self, filter: impl Filter) -> (Self, Self) {
        let part = |selected: bool| {
            let mut part = self.clone();
            walk_mut(&mut part, |path, kind, leaf| {
                if filter.selects(&LeafRef::new(path, kind, leaf)) != selected {
                    leaf.replace(Handle::nothing());
                }
            });
            part
        };
        (part(true), part(false))
    }

    /// Takes over every leaf of `other` that is not `Nothing`. The tree is unchanged on an error.
    ///
    /// # Errors
    /// If `other` has another structure; the error names the first leaf that differs.
    fn update(&mut self, other: &Self) -> Result<()> {
        update::update(self, other)
    }

    /// [`update`](Self::update) of a clone.
    ///
    /// # Errors
    /// As `update`.
    fn updated(&self, other: &Self) -> Result<Self> {
        let mut tree = self.clone();
        tree.update(other)?;
        Ok(tree)
    }

    /// The tree with `f` applied to each value; `Nothing` and what waits for `init` stay as they are.
    ///
    /// # Errors
    /// The first that `f` reports, with its path.
    fn map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut tree = self.clone();
        try_walk_mut(&mut tree, |_, _, leaf| {
            if let Some(value) = leaf.tracked_value() {
                let mapped = Handle::from_copy(&f(value)?)?;
                leaf.replace(mapped);
            }
            Ok(())
        })?;
        Ok(tree)
    }

    /// The tree with `f` applied to each pair of values; a leaf that has no value in either tree stays as it
    /// is in this one. Plain gradient descent is `model.zip_map(&grads, |p, g| Ok((p - (g * 0.01)?)?))`.
    ///
    /// # Errors
    /// If `other` has another structure, and the first error that `f` reports, with its path.
    fn zip_map(&self, other: &Self, mut f: impl FnMut(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let others = other.flatten();
        others.check_structure(self, "the tree to zip with")?;
        let (mut tree, mut index) = (self.clone(), 0);
        try_walk_mut(&mut tree, |_, _, leaf| {
            if let (Some(value), Some(other)) = (leaf.tracked_value(), others.get(index)) {
                let mapped = Handle::from_copy(&f(value, other)?)?;
                leaf.replace(mapped);
            }
            index += 1;
            Ok(())
        })?;
        Ok(tree)
    }

    /// The leaves that are not `Nothing`, in field order, with path, kind and what they hold.
    #[must_use]
    fn leaves(&self) -> Vec<(Path, KindTag, &Handle)> {
        let mut leaves = Vec::new();
        walk(self, |path, kind, leaf| {
            if !leaf.is_nothing() {
                leaves.push((Path::from(path), kind, leaf));
            }
        });
        leaves
    }

    /// All leaves for writing, in field order, `Nothing` included: position for position those of
    /// [`flatten`](Self::flatten).
    fn leaves_mut(&mut self) -> Vec<LeafMut<'_>> {
        let mut leaves = Vec::new();
        walk_mut(self, |path, kind, leaf| leaves.push(LeafMut::new(path, kind, leaf)));
        leaves
    }

    /// [`leaves_mut`](Self::leaves_mut) without paths and kinds.
    fn handles_mut(&mut self) -> Vec<&mut Handle> {
        let mut handles = Vec::new();
        walk_mut(self, |_, _, leaf| handles.push(leaf));
        handles
    }

    /// The flat tree: all leaves in field order, `Nothing` included, so that positions align.
    #[must_use]
    fn flatten(&self) -> Leaves {
        Leaves::of(self)
    }

    /// This tree with the leaves of `leaves`, position by position.
    ///
    /// # Errors
    /// If `leaves` comes from a tree of another structure.
    fn unflatten(&self, leaves: &Leaves) -> Result<Self> {
        let mut tree = self.clone();
        leaves.write_into(&mut tree)?;
        Ok(tree)
    }

    /// The number of elements in the leaves that `filter` selects, as far as shapes are known.
    fn count(&self, filter: impl Filter) -> usize {
        let mut count = 0;
        walk(self, |path, kind, leaf| {
            if filter.selects(&LeafRef::new(path, kind, leaf)) {
                count += leaf.shape().map_or(0, candle_core::Shape::elem_count);
            }
        });
        count
    }

    /// The tree with every value on `device`; random keys and an optimizer's counts stay on the CPU.
    ///
    /// # Errors
    /// If a copy fails.
    fn into_device(mut self, device: &Device) -> Result<Self> {
        init::to_device(&mut self, device)?;
        Ok(self)
    }

    /// The tree with the floating values of kind `Parameter`, `BatchStat` and `Cache` cast to `dtype`.
    ///
    /// # Errors
    /// If a cast fails.
    fn into_dtype(self, dtype: DType) -> Result<Self> {
        self.into_dtype_where((Parameter, BatchStat, Cache), dtype)
    }

    /// The tree with the floating values that `filter` selects cast to `dtype`.
    ///
    /// # Errors
    /// If a cast fails.
    fn into_dtype_where(mut self, filter: impl Filter, dtype: DType) -> Result<Self> {
        try_walk_mut(&mut self, |path, kind, leaf| match leaf.value() {
            Some(value) if value.dtype().is_float() && filter.selects(&LeafRef::new(path, kind, leaf)) => {
                let cast = Handle::from_copy(&value.to_dtype(dtype)?)?;
                leaf.replace(cast);
                Ok(())
            }
            _ => Ok(()),
        })?;
        Ok(self)
    }

    /// Fills what waits for a value, from a seed or a [`Key`], and brings all values but random keys to
    /// `device`. What has a value keeps it, so a trained sub-model can be passed into a new one. The
    /// [module](crate::init) says which key goes where.
    ///
    /// ```
    /// # use candle_core::Device;
    /// # use treex_core::{Initializer, Leaf, Parameter, prelude::*};
    /// # #[derive(Clone, TreeObject)]
    /// # struct Model { w: Leaf<Parameter> }
    /// # impl Model { fn new() -> Self { Self { w: Initializer::new(|key| key.normal(3, candle_core::DType::F32)).into() } } }
    /// let model = Model::new();
    /// assert!(!model.initialized());
    /// assert!(model.init(42, &Device::Cpu)?.initialized());
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// What an initializer or a `module_init` reports, with its path.
    fn init(mut self, key: impl Into<Key>, device: &Device) -> Result<Self> {
        init::init(&mut self, Source::Chain(key.into()), device)?;
        Ok(self)
    }

    /// [`init`](Self::init) with the keys that Flax Linen derives from the paths, so that a model whose fields
    /// are named like a Flax module's gets its weights: see [`linen`]. Takes a seed or a [`Key`],
    /// or [`Rngs`] with a key for each stream.
    ///
    /// # Errors
    /// As `init`.
    fn init_linen(mut self, rngs: impl Into<Rngs>, device: &Device) -> Result<Self> {
        init::init(&mut self, Source::Linen(rngs.into()), device)?;
        Ok(self)
    }

    /// Restarts the random leaves that draw from `stream` with a root key, as `apply(rngs={stream: key})` does
    /// in Flax, so that a step can be repeated. `"params"` restarts those too that have no key of their own.
    ///
    /// # Errors
    /// If no leaf draws from `stream`; so it is after [`init`](Self::init), which makes keys without streams.
    fn set_rngs(&mut self, stream: &str, key: impl Into<Key>) -> Result<()> {
        linen::set_rngs(self, stream, key.into())
    }

    /// [`init`](Self::init) on the device of `x`, after the layers have learned the sizes that they were not
    /// given from the shapes that `x` has on its way through the model.
    ///
    /// # Errors
    /// As `init`, and what the call reports.
    fn init_with(self, key: impl Into<Key>, x: &Tensor) -> Result<Self>
    where
        Self: Module,
    {
        self.inferred(x)?.init(key, x.device())
    }

    /// The tree with the shapes that its layers find when it is called on `x`. Nothing is initialized, and no
    /// state is kept.
    ///
    /// # Errors
    /// What the call reports.
    fn inferred(self, x: &Tensor) -> Result<Self>
    where
        Self: Module,
    {
        self.inferred_by(x.device(), |model| model.call(x))
    }

    /// [`inferred`](Self::inferred) by any call, for models with other inputs than one tensor.
    ///
    /// # Errors
    /// What `call` reports.
    fn inferred_by<R>(mut self, device: &Device, call: impl FnOnce(&mut Self) -> Result<R>) -> Result<Self> {
        shape_inference::infer(&mut self, device, call)?;
        Ok(self)
    }

    /// Whether no leaf waits for `init`.
    fn initialized(&self) -> bool {
        init::is_initialized(self)
    }

    /// Switches the whole tree to training.
    fn train(&mut self) {
        set_mode::set_training(self, true);
    }

    /// Switches the whole tree to evaluation: no dropout, running statistics are read, not written.
    fn eval(&mut self) {
        set_mode::set_training(self, false);
    }

    /// The tree in evaluation, for the functional style.
    #[must_use]
    fn into_eval(mut self) -> Self {
        self.eval();
        self
    }

    /// The tree in training, for the functional style.
    #[must_use]
    fn into_train(mut self) -> Self {
        self.train();
        self
    }

    /// Freezes the leaves that `filter` selects, as everywhere in the field: they are not trained. Gradients and
    /// optimizers leave them out whatever their own filter says (`Nothing` in the gradient, no moments, no weight
    /// decay), `tracked` and `vars` do not have them, and state that is frozen cannot be written. A module whose own
    /// state is all frozen (or, without state of its own, whose leaves are) behaves as in evaluation: no noise, no new
    /// statistics.
    ///
    /// The flag belongs to the leaf: `clone`, `map`, `update`, `unflatten` and loading keep it, `tabulate` shows it,
    /// files do not store it. Less than freezing is possible by filters: of a gradient, of an optimizer
    /// (`Optimizer::wrt`), and by [`eval`](Self::eval).
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// use treex_core::{Leaf, Parameter, path, prelude::*};
    ///
    /// let leaf = |value: f32| Leaf::<Parameter>::new(Tensor::new(value, &Device::Cpu)?);
    /// let mut pair = (leaf(2.)?, leaf(3.)?);
    /// pair.freeze(path("0"))?;
    /// let (_, grads) = pair.value_and_grad(Parameter, |(a, b)| Ok((a.get()? * b.get()?)?))?;
    /// assert!(grads.0.is_nothing());
    /// assert_eq!(grads.1.get()?.to_scalar::<f32>()?, 2.);
    /// pair.unfreeze(Parameter)?;
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If `filter` selects no leaf.
    fn freeze(&mut self, filter: impl Filter) -> Result<()> {
        freeze::set_frozen(self, &filter, true)
    }

    /// Undoes [`freeze`](Self::freeze) for the leaves that `filter` selects. An optimizer that was initialized while
    /// they were frozen has no state for them: `Optimizer::reconcile` adds it.
    ///
    /// # Errors
    /// If `filter` selects no leaf.
    fn unfreeze(&mut self, filter: impl Filter) -> Result<()> {
        freeze::set_frozen(self, &filter, false)
    }

    /// The value of a loss and its gradient with respect to the differentiable leaves that `filter` selects.
    /// The gradient is a tree of the model's type in which everything else is `Nothing`; a selected leaf
    /// that the loss does not reach has zeros. State that the closure writes stays in the model.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// use treex_core::{Leaf, Parameter, State, prelude::*};
    ///
    /// #[derive(Clone, TreeObject)]
    /// struct Model {
    ///     w: Leaf<Parameter>,
    ///     calls: Leaf<State>,
    /// }
    ///
    /// let scalar = |value: f32| Tensor::new(value, &Device::Cpu);
    /// let mut model = Model { w: Leaf::new(scalar(3.)?)?, calls: Leaf::new(scalar(0.)?)? };
    /// let (loss, grads) = model.value_and_grad(Parameter, |model| {
    ///     model.calls.set((model.calls.get()? + 1.)?)?;
    ///     Ok(model.w.get()?.sqr()?)
    /// })?;
    /// assert_eq!(loss.to_scalar::<f32>()?, 9.);
    /// assert_eq!(grads.w.get()?.to_scalar::<f32>()?, 6.);
    /// assert!(grads.calls.is_nothing());
    /// assert_eq!(model.calls.get()?.to_scalar::<f32>()?, 1.);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the closure reports; a loss that is not a scalar; a filter that selects nothing to differentiate
    /// by; an uninitialized leaf; a closure that changes the tree's structure. The model is then as it was.
    fn value_and_grad(
        &mut self,
        filter: impl Filter,
        f: impl FnOnce(&mut Self) -> Result<Tensor>,
    ) -> Result<(Tensor, Self)> {
        let ((loss, ()), grads) = self.value_and_grad_aux(filter, |model| Ok((f(model)?, ())))?;
        Ok((loss, grads))
    }

    /// [`value_and_grad`](Self::value_and_grad) of a closure with more to hand out: logits, metrics.
    ///
    /// # Errors
    /// As `value_and_grad`.
    fn value_and_grad_aux<A>(
        &mut self,
        filter: impl Filter,
        f: impl FnOnce(&mut Self) -> Result<(Tensor, A)>,
    ) -> Result<((Tensor, A), Self)> {
        grad::in_place(self, &filter, f)
    }

    /// A clone whose selected leaves hand out tracked tensors for as long as the clone lives, for code that
    /// calls Candle's `backward` itself.
    ///
    /// # Errors
    /// As [`value_and_grad`](Self::value_and_grad), before the closure.
    fn tracked(&self, filter: impl Filter) -> Result<Self> {
        grad::tracked(self, &filter)
    }

    /// The Candle variables of the leaves that `filter` selects, in field order: for Candle's own optimizers,
    /// and to look up gradients after Candle's `backward` over [`tracked`](Self::tracked).
    ///
    /// Whoever writes to them writes to this tree, and to the clones made of it from now on.
    ///
    /// # Errors
    /// If a selected leaf has no value.
    fn vars(&mut self, filter: impl Filter) -> Result<Vec<Var>> {
        grad::vars(self, &filter)
    }

    /// The trees as one, each leaf with a new leading axis over the trees.
    ///
    /// # Errors
    /// If there are no trees, or they differ in structure, shapes or element types.
    fn stack(trees: &[Self]) -> Result<Self> {
        stack::stack(trees)
    }

    /// The trees that were [`stack`](Self::stack)ed.
    ///
    /// # Errors
    /// If leaves have no leading axis, or of different lengths.
    fn unstack(&self) -> Result<Vec<Self>> {
        stack::unstack(self)
    }

    /// Writes all leaves that are not `Nothing` to a safetensors file, which is complete or not there at all.
    ///
    /// # Errors
    /// If a leaf has no value yet, two leaves have the same name, or the file cannot be written.
    fn save(&self, file: impl AsRef<FilePath>) -> Result<()> {
        checkpoint::save(self, file.as_ref())
    }

    /// Reads all leaves that are not `Nothing` from a file: every leaf must be there, with its shape, element
    /// type and kind, and nothing else. The tree is unchanged on an error. A value comes to the device of the
    /// one that it replaces; where there was none yet, to the host.
    ///
    /// # Errors
    /// If the file cannot be read or does not fit; the error names the leaf and the nearest names.
    fn load(&mut self, file: impl AsRef<FilePath>) -> Result<()> {
        self.load_with(file, &Load::strict()).map(|_| ())
    }

    /// [`load`](Self::load) with what may be missing, surplus or renamed.
    ///
    /// # Errors
    /// As `load`, less what the options allow.
    fn load_with(&mut self, file: impl AsRef<FilePath>, options: &Load) -> Result<Report> {
        checkpoint::load(self, file.as_ref(), options)
    }

    /// A table of the modules: path, type, and for each kind present the number of elements and bytes.
    fn tabulate(&self) -> String {
        summary::tabulate(self)
    }

    /// The table with the shapes that go in and out when the module is called on `x`.
    ///
    /// # Errors
    /// What the call reports, with its path.
    fn tabulate_with(&self, x: &Tensor) -> Result<String>
    where
        Self: Module,
    {
        summary::tabulate_with(self, x)
    }
}

impl<T: TreeObject + Clone> Tree for T {}
