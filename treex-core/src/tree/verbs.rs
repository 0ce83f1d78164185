//! The methods of every tree.

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
use super::{cast, freeze, set_mode, update};
use crate::error::Result;
use crate::init::{self, Source, linen, shape_inference};
use crate::io::checkpoint::{self, Load, Report, Save};
use crate::io::summary;
use crate::nearest::no_leaf;
use crate::random::Key;
use crate::random::stream::Rngs;
use crate::transform::auxiliary::Aux;
use crate::transform::{grad, stack};

/// The methods of every tree that is `Clone`. In `treex_core::prelude`.
///
/// Laws, each with a property test:
///
/// - `x.updated(&x.filter(f)) == x`, and `partition` gives two halves that update to the whole;
/// - `x.filter(f).filter(f) == x.filter(f)`;
/// - each leaf is selected by its kind, and by every kind above it, and by no other;
/// - `map` and `zip_map` keep the structure, and with the identity return an equal tree that shares no storage;
/// - `x.unflatten(&x.flatten()) == x`; leaves are in field order.
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

    /// The tree with the selected leaves, and the tree with the rest.
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

    /// Replaces each leaf by that of `other`, where the latter is not `Nothing`. The tree is unchanged on an error.
    ///
    /// # Errors
    /// If the structures differ; the error names the first leaf that does.
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

    /// The tree with `f` applied to each value; leaves without a value are unchanged.
    ///
    /// # Errors
    /// The first error of `f`, with its path.
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

    /// The tree with `f` applied to each pair of values; a leaf without a value in either tree is unchanged.
    /// Gradient descent is `model.zip_map(&grads, |p, g| Ok((p - (g * 0.01)?)?))`.
    ///
    /// # Errors
    /// If the structures differ; the first error of `f`, with its path.
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

    /// The leaves that are not `Nothing`, in field order, with path and kind.
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

    /// All leaves for writing, in field order, including `Nothing`: aligned with [`flatten`](Self::flatten).
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

    /// The flat tree: all leaves in field order, including `Nothing`, so that positions align.
    #[must_use]
    fn flatten(&self) -> Leaves {
        Leaves::of(self)
    }

    /// This tree with the leaves of `leaves`, position by position.
    ///
    /// # Errors
    /// If `leaves` has a different structure.
    fn unflatten(&self, leaves: &Leaves) -> Result<Self> {
        let mut tree = self.clone();
        leaves.write_into(&mut tree)?;
        Ok(tree)
    }

    /// The number of elements in the leaves that `filter` selects; a leaf of unknown shape counts 0.
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

    /// The tree with the floating values of kind `Parameter`, `BatchStat` and `Cache` cast to `dtype`:
    /// [`into_dtype_where`](Self::into_dtype_where).
    ///
    /// # Errors
    /// If `dtype` is not a floating type, or a cast fails.
    fn into_dtype(mut self, dtype: DType) -> Result<Self> {
        cast::cast(&mut self, &(Parameter, BatchStat, Cache), dtype)?;
        Ok(self)
    }

    /// The tree with the floating values that `filter` selects cast to `dtype`. In a closure that is differentiated,
    /// gradients flow through the cast. Call it after [`init`](Self::init): a leaf without a value stays as it is.
    ///
    /// # Errors
    /// If `dtype` is not a floating type, `filter` selects no leaf, or a cast fails.
    fn into_dtype_where(mut self, filter: impl Filter, dtype: DType) -> Result<Self> {
        if !cast::cast(&mut self, &filter, dtype)? {
            return Err(no_leaf(&self, &filter));
        }
        Ok(self)
    }

    /// Initializes the uninitialized leaves from a seed or a [`Key`], and moves all values but random keys to
    /// `device`. Values are kept, so a new model can contain a trained one. [`init`](mod@crate::init) defines the order
    /// of the keys.
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
    /// The error of an initializer or a `module_init`, with its path.
    fn init(mut self, key: impl Into<Key>, device: &Device) -> Result<Self> {
        init::init(&mut self, Source::Chain(key.into()), device)?;
        Ok(self)
    }

    /// [`init`](Self::init) with keys derived from the paths as in Flax Linen, so that a model whose fields are
    /// named like those of a Flax module gets the same weights: see [`linen`]. Takes a seed, a [`Key`],
    /// or [`Rngs`] with a key for each stream.
    ///
    /// # Errors
    /// As `init`.
    fn init_linen(mut self, rngs: impl Into<Rngs>, device: &Device) -> Result<Self> {
        init::init(&mut self, Source::Linen(rngs.into()), device)?;
        Ok(self)
    }

    /// Resets the random leaves of `stream` from a root key, like Flax's `apply(rngs={stream: key})`, so that a
    /// step can be repeated. `"params"` also resets the streams without a key of their own.
    ///
    /// # Errors
    /// If no leaf is in `stream`; after [`init`](Self::init), whose keys have no streams, none is.
    fn set_rngs(&mut self, stream: &str, key: impl Into<Key>) -> Result<()> {
        linen::set_rngs(self, stream, key.into())
    }

    /// Infers missing sizes by calling the model on `x`, then [`init`](Self::init)s it on the device of `x`.
    ///
    /// # Errors
    /// As `init`, and the error of the call.
    fn init_with(self, key: impl Into<Key>, x: &Tensor) -> Result<Self>
    where
        Self: Module,
    {
        self.inferred(x)?.init(key, x.device())
    }

    /// The tree with the shapes that its layers infer from a call on `x`. Nothing is initialized, and no state
    /// is kept.
    ///
    /// # Errors
    /// The error of the call.
    fn inferred(self, x: &Tensor) -> Result<Self>
    where
        Self: Module,
    {
        self.inferred_by(x.device(), |model| model.call(x))
    }

    /// [`inferred`](Self::inferred) with a custom call, for models with other inputs than one tensor.
    ///
    /// # Errors
    /// The error of `call`.
    fn inferred_by<R>(mut self, device: &Device, call: impl FnOnce(&mut Self) -> Result<R>) -> Result<Self> {
        shape_inference::infer(&mut self, device, call)?;
        Ok(self)
    }

    /// Whether every leaf is initialized.
    fn initialized(&self) -> bool {
        init::is_initialized(self)
    }

    /// Sets the whole tree to training mode.
    fn train(&mut self) {
        set_mode::set_training(self, true);
    }

    /// Sets the whole tree to evaluation mode: no dropout, and running statistics are read, not written.
    fn eval(&mut self) {
        set_mode::set_training(self, false);
    }

    /// [`eval`](Self::eval) by value.
    #[must_use]
    fn into_eval(mut self) -> Self {
        self.eval();
        self
    }

    /// [`train`](Self::train) by value.
    #[must_use]
    fn into_train(mut self) -> Self {
        self.train();
        self
    }

    /// Freezes the leaves that `filter` selects: they are not trained. Gradients and optimizers exclude them whatever
    /// their own filter (`Nothing` in the gradient, no moments, no weight decay), so do `tracked` and `vars`, and
    /// frozen state cannot be written. A module whose own state is all frozen (without state: whose leaves all are)
    /// behaves as in evaluation: no noise, no new statistics.
    ///
    /// The flag belongs to the leaf: `clone`, `map`, `update`, `unflatten` and loading keep it, `tabulate` shows it,
    /// files do not store it. For finer control, use the filter of a gradient or an
    /// optimizer (`Optimizer::wrt`), or [`eval`](Self::eval).
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
    /// Inside of another function that is differentiated, the loss and the gradients are functions of the outer leaves, to
    /// any order: see [`enable_nested_gradients`](crate::enable_nested_gradients). For a constant, write
    /// [`stop_gradient(&grads)`](crate::stop_gradient).
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
    /// Graphs of any depth are walked and freed with the stack that they need. Only one that the closure drops itself, by an
    /// error at its end or an unused tensor, is freed on the stack of the thread, by Candle's recursion: tens of thousands
    /// of operations need a thread with a larger one.
    ///
    /// # Errors
    /// The error of the closure; a loss that is not a scalar; a filter that selects nothing differentiable; an
    /// uninitialized leaf; a closure that changes the tree's structure. The model is then unchanged.
    fn value_and_grad(
        &mut self,
        filter: impl Filter,
        f: impl FnOnce(&mut Self) -> Result<Tensor>,
    ) -> Result<(Tensor, Self)> {
        let ((loss, ()), grads) = self.value_and_grad_aux(filter, |model| Ok((f(model)?, ())))?;
        Ok((loss, grads))
    }

    /// [`value_and_grad`](Self::value_and_grad) of a closure with auxiliary outputs: logits, metrics, a hidden state. They
    /// are constants: see [`Aux`].
    ///
    /// # Errors
    /// As `value_and_grad`.
    fn value_and_grad_aux<A: Aux>(
        &mut self,
        filter: impl Filter,
        f: impl FnOnce(&mut Self) -> Result<(Tensor, A)>,
    ) -> Result<((Tensor, A), Self)> {
        grad::in_place(self, &filter, f)
    }

    /// A clone whose selected leaves return tracked tensors for as long as the clone lives, for code that calls
    /// Candle's `backward` itself.
    ///
    /// # Errors
    /// As [`value_and_grad`](Self::value_and_grad), before the closure.
    fn tracked(&self, filter: impl Filter) -> Result<Self> {
        grad::tracked(self, &filter)
    }

    /// The Candle variables of the leaves that `filter` selects, in field order: for Candle's own optimizers,
    /// and to look up gradients after Candle's `backward` over [`tracked`](Self::tracked).
    ///
    /// A write to a variable changes this tree and the clones made of it from now on.
    ///
    /// # Errors
    /// If a selected leaf has no value.
    fn vars(&mut self, filter: impl Filter) -> Result<Vec<Var>> {
        grad::vars(self, &filter)
    }

    /// One tree whose leaves have a new leading axis over `trees`. It is called slice by slice, by [`vmap`](crate::vmap):
    /// called directly, a layer is an error, and a module of your own may broadcast over the slices.
    ///
    /// # Errors
    /// If there are no trees, or they differ in structure, shapes or element types.
    fn stack(trees: &[Self]) -> Result<Self> {
        stack::stack(trees)
    }

    /// The inverse of [`stack`](Self::stack).
    ///
    /// # Errors
    /// If leaves have no leading axis, or different lengths.
    fn unstack(&self) -> Result<Vec<Self>> {
        stack::unstack(self)
    }

    /// Writes all leaves that are not `Nothing` to a safetensors file, atomically: a crash leaves the old file or the
    /// new one, and perhaps a file `.treex-*.tmp` beside it, which the next save in that folder removes. The mode of the
    /// file is that of the one that was there, or follows the umask; a symbolic link stays, and what it leads to is
    /// written.
    ///
    /// Memory beside the tree's own: a few megabytes, and a copy of one leaf at a time if it is on another device.
    ///
    /// # Errors
    /// If a leaf has no value yet, two leaves have the same name, a leaf is called `__metadata__`, or the file cannot be
    /// written or is not a regular one. A file that was there is then as it was.
    fn save(&self, file: impl AsRef<FilePath>) -> Result<()> {
        self.save_with(file, &Save::new())
    }

    /// [`save`](Self::save) with texts that describe the file.
    ///
    /// # Errors
    /// As `save`.
    fn save_with(&self, file: impl AsRef<FilePath>, options: &Save) -> Result<()> {
        checkpoint::save(self, file.as_ref(), options)
    }

    /// Reads all leaves that are not `Nothing` from a file. The file must hold every leaf, with its shape, element
    /// type and kind, and nothing else. The tree is unchanged on an error. A value is loaded to the device of the
    /// one that it replaces, or to the CPU if there was none.
    ///
    /// Memory beside the tree's own: the new values, since the old ones are kept until all are read, and one more copy
    /// of the largest. What does not match is found before any value is read.
    ///
    /// # Errors
    /// If the file cannot be read, is not a regular one, or does not match; the error names the leaf and the nearest
    /// names.
    fn load(&mut self, file: impl AsRef<FilePath>) -> Result<()> {
        self.load_with(file, &Load::strict()).map(|_| ())
    }

    /// [`load`](Self::load) that may allow missing, unused or renamed tensors.
    ///
    /// # Errors
    /// As `load`, except for what the options allow.
    fn load_with(&mut self, file: impl AsRef<FilePath>, options: &Load) -> Result<Report> {
        checkpoint::load(self, file.as_ref(), options)
    }

    /// A table of the modules: path, type, and for each kind present the number of elements and bytes. After 1,000 rows,
    /// one row holds the sum of the others; [`tabulate_depth`](Self::tabulate_depth) has fewer.
    fn tabulate(&self) -> String {
        self.tabulate_depth(usize::MAX)
    }

    /// The table of the modules whose path has at most `depth` segments; what is below them counts for them. The `depth`
    /// of Flax's `tabulate`.
    fn tabulate_depth(&self, depth: usize) -> String {
        summary::tabulate(self, depth)
    }

    /// The table with the input and output shapes of a call on `x`.
    ///
    /// # Errors
    /// The error of the call, with its path.
    fn tabulate_with(&self, x: &Tensor) -> Result<String>
    where
        Self: Module,
    {
        summary::tabulate_with(self, x)
    }
}

impl<T: TreeObject + Clone> Tree for T {}
