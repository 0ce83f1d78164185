//! The optimizer: a transformation with its state, which trains a model.
//!
//! A step: gradients and parameters become flat trees, reduced to the positions that `init` selected; the
//! transformation records its work on a copy of the state, which shares the tensors; the engine runs it and
//! writes in place. Errors are reported before the first write, so they leave model and optimizer unchanged.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use treex_core::autograd::is_recording;
use treex_core::capture::plan::{Ahead, look_ahead, on_host, refuse};
use treex_core::{
    Error, ErrorKind, Filter, LeafRef, Leaves, ModuleId, OptState, Path, Result, TreeObject, TreePart,
    Visitor, VisitorMut, hvp, nearest_paths, prelude::*,
};

use crate::engine::{Target, Updates, run};
use crate::extra::Extra;
use crate::scalar::Count;
use crate::selection::{Selection, paths};
use crate::transfer::to_f64;
use crate::transformation::GradientTransformation;

/// A [`GradientTransformation`] with its state. It *is* the state: a tree, with kind
/// [`OptState`](treex_core::OptState) on every leaf. Clone, save, load and print it like a model.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_optim::{Optimizer, adamw, mse, prelude::*, warmup_cosine};
///
/// let x = Tensor::arange(0f32, 8., &Device::Cpu)?;
/// let y = (&x * 3.)?;
/// let mut slope = Leaf::<Parameter>::new(Tensor::new(0f32, &Device::Cpu)?)?;
///
/// let mut optimizer = Optimizer::new(adamw(warmup_cosine(0.1, 10, 200))).init(&slope)?;
/// for _ in 0..200 {
///     let (_, gradient) = slope.value_and_grad(Parameter, |slope| mse(&x.broadcast_mul(&slope.get()?)?, &y))?;
///     optimizer.update(&gradient, &mut slope)?;
/// }
/// assert_eq!(optimizer.step_count()?, 200);
/// assert!((slope.get()?.to_scalar::<f32>()? - 3.).abs() < 1e-2);
/// # Ok::<(), Error>(())
/// ```
///
/// [`init`](Self::init) fixes which leaves are trained, by position and path: those of floats and of a differentiable
/// kind that [`wrt`](Self::wrt) selects and that are not frozen. Every other leaf stays bit-identical. A leaf that is
/// frozen later keeps its state and is not updated; one that is unfrozen later needs
/// [`reconcile`](Self::reconcile), and until then `update` is an error. A gradient that
/// is `Nothing` skips its leaf, with its moments and its decay; a gradient of zeros is a step, as in Optax.
///
/// The names in a saved state are `step`, the number of updates, and `state.` followed by the path in the
/// transformation's state: `state.0.mu.layers.0.kernel`. The file also names the transformation and its members,
/// without their numbers, and is loaded only into the same.
///
/// [`init`](Self::init) and [`update`](Self::update) have Optax's names, and take precedence over the tree's
/// methods of these names ([`Tree`](treex_core::Tree)). Reach those by their full path:
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, Tree, path, prelude::*};
/// # use treex_optim::{Optimizer, adam};
/// # let model = Leaf::<Parameter>::new(Tensor::new(&[1f32], &Device::Cpu)?)?;
/// let mut optimizer = Optimizer::new(adam(0.1)).init(&model)?;
/// let saved = optimizer.filter(path("state.**"));
/// Tree::update(&mut optimizer, &saved)?; // writes the leaves of another tree
/// # Ok::<(), treex_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Optimizer<T: GradientTransformation> {
    transformation: T,
    wrt: Selection,
    initialized: Option<Initialized<T::State>>,
}

/// The fields of an optimizer after `init`.
#[derive(Clone, TreeObject)]
struct Initialized<S> {
    #[tree(kind = OptState)]
    step: Count,
    #[tree(kind = OptState)]
    state: S,
    /// Which leaves are trained: a [`placeholder`] at the position of each.
    #[tree(skip)]
    plan: Arc<Leaves>,
}

/// A step that runs. When it ends, by a panic too, the optimizer has a state again: that from before, while it is there, or the
/// next one.
struct Running<'o, S> {
    slot: &'o mut Option<Initialized<S>>,
    before: Option<Initialized<S>>,
    next: Option<Initialized<S>>,
}

impl<S> Drop for Running<'_, S> {
    fn drop(&mut self) {
        if self.slot.is_none() {
            *self.slot = self.before.take().or(self.next.take());
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Initialized<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initialized")
            .field("step", &self.step)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<T: GradientTransformation> Optimizer<T> {
    /// An optimizer without a state; call [`init`](Self::init) before the first step.
    #[must_use]
    pub fn new(transformation: T) -> Self {
        Self { transformation, wrt: Selection::new(TreePart), initialized: None }
    }

    /// Trains only the leaves that `filter` selects. Takes effect at [`init`](Self::init).
    #[must_use]
    pub fn wrt(self, filter: impl Filter + Send + Sync + 'static) -> Self {
        Self { wrt: Selection::new(filter), ..self }
    }

    /// The optimizer before its first step, for `model` or a filtered tree of it.
    ///
    /// # Errors
    /// If there is nothing to train, a leaf to train has no value, or an option of the transformation is
    /// out of range.
    pub fn init<M: TreeObject + Clone>(self, model: &M) -> Result<Self> {
        let params = trainable(model.flatten(), &self.wrt)?;
        let state = self.transformation.init(&params)?;
        let plan = Arc::new(params.apply(placeholder)?);
        Ok(Self { initialized: Some(Initialized { step: Count::zero()?, state, plan }), ..self })
    }

    /// One step: writes the new parameters into `model`, in place unless they are shared, and the new state
    /// into the optimizer. `grads` and `model` may be filtered trees.
    ///
    /// # Errors
    /// If the optimizer was not initialized, `grads` or `model` differ in structure or shapes from those
    /// at `init`, or the transformation fails. Model and optimizer are then unchanged; but if the memory of a device runs
    /// out amid the step, some leaves may have made it, and the error says so.
    pub fn update<M: TreeObject + Clone>(&mut self, grads: &M, model: &mut M) -> Result<()> {
        self.update_with(grads, model, &Extra::default())
    }

    /// [`update`](Self::update) with extra arguments for the transformation.
    ///
    /// # Errors
    /// As `update`.
    pub fn update_with<M: TreeObject + Clone>(
        &mut self,
        grads: &M,
        model: &mut M,
        extra: &Extra<'_>,
    ) -> Result<()> {
        check_constant(grads)?;
        check_constant(model)?;
        let Initialized { plan, state, .. } = self.initialized()?;
        let params = planned(plan, model, "model")?.without_frozen();
        let grads = planned_gradient(plan, grads, &params, self.transformation.takes_examples(state))?;
        self.step(grads, params, Target::Model(model.handles_mut()), extra)
    }

    /// [`update_with`](Self::update_with) for any model.
    fn step(&mut self, grads: Leaves, params: Leaves, model: Target<'_>, extra: &Extra<'_>) -> Result<()> {
        check_params(&grads, &params)?;
        let (ahead, model) = self.look_ahead(&grads, &params, model, extra)?;
        let mut next = self.initialized()?.clone();
        next.step.advance()?;
        let updates = Updates::new(grads, params).with_extra(*extra);
        let mut running = Running { slot: &mut self.initialized, before: None, next: None };
        let updates = self.transformation.update(updates, &mut running.next.insert(next).state)?;
        running.before = running.slot.take();
        let before = &mut running.before;
        let result = run(updates, model, Box::new(|| *before = None));
        let is_whole = running.before.is_some();
        running.before.take_if(|_| result.is_ok());
        result.map(drop).map_err(|error| if is_whole { error } else { in_part(error) })?;
        drop(running);
        if let (Some(ahead), Some(initialized)) = (ahead, &self.initialized) {
            ahead.reached(initialized);
        }
        Ok(())
    }

    /// In a captured step: finds the numbers of this step and of later ones, which change nothing but what is on the host.
    fn look_ahead<'t>(
        &self,
        grads: &Leaves,
        params: &Leaves,
        model: Target<'t>,
        extra: &Extra<'_>,
    ) -> Result<(Option<Ahead>, Target<'t>)> {
        let (before, mut model) = (self.initialized()?, model);
        let mut state = before.clone();
        let ahead = look_ahead(before, || {
            state.step.advance()?;
            let updates = Updates::new(grads.clone(), params.clone()).with_extra(*extra);
            let updates = self.transformation.update(updates, &mut state.state)?;
            run(updates, model.again(), Box::new(|| ()))?;
            Ok(on_host(&state))
        })?;
        Ok((ahead, model))
    }

    /// The parameters after one step, as a new tree; `params` is unchanged: `params = optimizer.update(grads,
    /// params)` in Python treex.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_functional<M: TreeObject + Clone>(&mut self, grads: &M, params: &M) -> Result<M> {
        let mut params = params.clone();
        self.update(grads, &mut params)?;
        Ok(params)
    }

    /// One step of an optimizer that evaluates the loss at more than one point, as a line search does:
    /// computes value and gradient of `loss`, updates `model`, and returns the value before the step.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use treex_core::{Leaf, Parameter, prelude::*};
    /// # use treex_optim::{Optimizer, lbfgs};
    /// let mut x = Leaf::<Parameter>::new(Tensor::new(&[1f64, 2., 3.], &Device::Cpu)?)?;
    /// let mut optimizer = Optimizer::new(lbfgs()).init(&x)?;
    /// for _ in 0..5 {
    ///     optimizer.minimize(&mut x, |x| Ok((x.get()? - 0.5)?.sqr()?.sum_all()?))?;
    /// }
    /// assert!((x.get()?.to_vec1::<f64>()?[2] - 0.5).abs() < 1e-9);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// State that the loss changes (running statistics, random keys) is that of its first call; the trials
    /// of a line search run on a copy. For any other optimizer this is `value_and_grad` and
    /// [`update`](Self::update).
    ///
    /// # Errors
    /// As [`update`](Self::update), and the errors of `loss`.
    pub fn minimize<M: TreeObject + Clone>(
        &mut self,
        model: &mut M,
        loss: impl Fn(&mut M) -> Result<Tensor>,
    ) -> Result<f64> {
        let plan = Arc::clone(&self.initialized()?.plan);
        let wrt = self.wrt.clone();
        let mut after = model.clone();
        let (value, grads) = after.value_and_grad(wrt.clone(), &loss)?;
        let value = to_f64(&value)?;
        let frozen = after.flatten();
        let gradient = planned_gradient(&plan, &grads, &frozen, false)?;
        let trial = after.clone();
        let value_fn = |params: &Leaves| {
            let mut model = trial.updated(&trial.unflatten(params)?)?;
            let (value, grads) = model.value_and_grad(wrt.clone(), &loss)?;
            Ok((to_f64(&value)?, planned_gradient(&plan, &grads, &frozen, false)?))
        };
        let hvp_fn = |vector: &Leaves| {
            let vector = plan.rebuild(|index| match (vector.get(index), plan.get(index)) {
                (None, Some(planned)) => Ok(Some(planned.zeros_like()?)),
                (vector, _) => Ok(vector.cloned()),
            })?;
            let (_, _, product) = hvp(&trial, wrt.clone(), &loss, &trial.unflatten(&vector)?)?;
            planned_gradient(&plan, &product, &frozen, false)
        };
        let extra = Extra {
            value: Some(value),
            gradient: Some(&gradient),
            value_fn: Some(&value_fn),
            hvp_fn: Some(&hvp_fn),
            ..Extra::default()
        };
        self.update_with(&grads, &mut after, &extra)?;
        *model = after;
        Ok(value)
    }

    /// The model to evaluate with: `model` itself, or with the parameters that the transformation keeps for
    /// evaluation in place of those that are not frozen, such as those of [`params_ema`](crate::params_ema), [`lookahead`](crate::lookahead) or
    /// [`schedule_free`](crate::schedule_free).
    ///
    /// # Errors
    /// If the optimizer was not initialized, or `model` is not the one that it trains; if `model` is being differentiated, and
    /// parameters were replaced.
    pub fn eval_model<M: TreeObject + Clone>(&self, model: &M) -> Result<M> {
        let Initialized { plan, state, .. } = self.initialized()?;
        let params = planned(plan, &model.flatten(), "model")?.without_frozen();
        match self.transformation.eval_params(state, &params)? {
            Some(params) => {
                check_constant(model)?;
                model.updated(&model.unflatten(&params)?)
            }
            None => Ok(model.clone()),
        }
    }

    /// The number of updates so far.
    ///
    /// # Errors
    /// If the optimizer was not initialized; in a captured step, which would decide by it once and for all.
    pub fn step_count(&self) -> Result<u64> {
        refuse("the number of updates is read", "read it outside, or give what depends on it in the batch")?;
        self.initialized()?.step.get()
    }

    /// The learning rate that the next step will use: that of
    /// [`scale_by_learning_rate`](crate::scale_by_learning_rate), times the factors of [`scale`](crate::scale) and
    /// schedules around it.
    ///
    /// `None` if the transformation has none, if it is not the same for all leaves, or if only the step finds it: in a
    /// line search, in [`dog`](crate::dog), [`mechanize`](crate::mechanize) or [`polyak_sgd`](crate::polyak_sgd), or
    /// when the next loss may lower it, in [`reduce_on_plateau`](crate::reduce_on_plateau).
    ///
    /// # Errors
    /// If the optimizer was not initialized, or the rate is not a finite number; in a captured step, as
    /// [`step_count`](Self::step_count).
    pub fn learning_rate(&self) -> Result<Option<f64>> {
        refuse("the learning rate is read", "read it outside, or give what depends on it in the batch")?;
        let Initialized { plan, state, .. } = self.initialized()?;
        let mut common = None;
        for leaf in plan.iter().filter(|leaf| leaf.value().is_some()) {
            let size = self.transformation.step_size(state, &leaf)?;
            if size.is_dropped() {
                continue;
            }
            match (common, size.rate()) {
                (_, None) => return Ok(None),
                (Some(common), Some(rate)) if common != rate => return Ok(None),
                (_, rate) => common = rate,
            }
        }
        Ok(common)
    }

    /// The state of the transformation.
    ///
    /// # Errors
    /// If the optimizer was not initialized.
    pub fn state(&self) -> Result<&T::State> {
        Ok(&self.initialized()?.state)
    }

    /// The transformation.
    pub fn transformation(&self) -> &T {
        &self.transformation
    }

    /// The paths of the leaves that are trained.
    pub(crate) fn trained(&self) -> BTreeSet<Path> {
        let plan = self.initialized.iter().flat_map(|initialized| initialized.plan.iter());
        plan.filter(|leaf| leaf.value().is_some()).map(|leaf| leaf.path()).collect()
    }

    fn initialized(&self) -> Result<&Initialized<T::State>> {
        self.initialized.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Uninitialized, "the optimizer has no state yet")
                .remedy("call `let mut optimizer = optimizer.init(&model)?` first")
        })
    }
}

treex_core::tree_aux!([T: GradientTransformation] Optimizer<T>);

/// The step count and the transformation's state.
impl<T: GradientTransformation> TreeObject for Optimizer<T> {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.initialized.visit(visitor);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        self.initialized.visit_mut(visitor);
    }

    fn identity(&self) -> Option<ModuleId> {
        Some(ModuleId::of(self, "Optimizer"))
    }

    /// The transformation, since the leaves of two can have the same names.
    fn origin(&self) -> Option<String> {
        self.initialized.as_ref().map(|initialized| self.transformation.structure(&initialized.state))
    }
}

/// An error in the part of a step that writes.
fn in_part(error: Error) -> Error {
    let restore = "some leaves may have made the step and others not: go on from a clone or a checkpoint";
    let remedy =
        error.remedy_text().map_or_else(|| restore.to_owned(), |remedy| format!("{restore}; {remedy}"));
    error.remedy(remedy)
}

/// The leaves of a model to train. Not generic, like the functions below: a program instantiates the
/// methods of [`Optimizer`] for each of its models and transformations.
fn trainable(leaves: Leaves, wrt: &Selection) -> Result<Leaves> {
    let all = leaves.select(&treex_core::by(is_trainable));
    let selected = all.clone().select(wrt);
    let frozen = (0..selected.len()).filter(|&index| selected.is_frozen(index)).count();
    let leaves = selected.without_frozen();
    if let Some((path, kind, _)) = leaves.leaves().into_iter().find(|(_, _, leaf)| leaf.value().is_none()) {
        let message = format!("a leaf of kind `{kind}` has no value yet, so it cannot be trained");
        return Err(Error::new(ErrorKind::Uninitialized, message)
            .at(path.segments())
            .remedy("call `let model = model.init(seed, &device)?` before the optimizer's `init`"));
    }
    let params = leaves.apply(|param| Ok(param.detach()))?;
    if params.tensors().next().is_none() && frozen > 0 {
        let message = format!("nothing to train: all leaves that `{wrt:?}` selects are frozen");
        return Err(Error::new(ErrorKind::Frozen, message)
            .found(format!("{frozen} frozen leaves"))
            .remedy("call `model.unfreeze(filter)?` for those to train"));
    }
    if params.tensors().next().is_none() {
        let near = nearest_paths(wrt, paths(&all));
        return Err(Error::argument(format!("nothing to train: `{wrt:?}` selects no differentiable leaf"))
            .expected("at least one leaf that holds floats, of kind `Parameter`")
            .found(format!("{} leaves, {} of them differentiable{near}", all.len(), paths(&all).count()))
            .remedy("check the filter of `wrt`, and that the model was not filtered to nothing"));
    }
    Ok(params)
}

/// Whether a leaf can be trained. One of unknown type may be.
fn is_trainable(leaf: &LeafRef<'_>) -> bool {
    leaf.kind().is_differentiable() && leaf.dtype().is_none_or(|dtype| dtype.is_float())
}

/// A tensor of the same shape and type with one element of storage.
fn placeholder(tensor: &Tensor) -> Result<Tensor> {
    Ok(Tensor::zeros((), tensor.dtype(), tensor.device())?.broadcast_as(tensor.shape())?)
}

/// The leaves of `tree` at the planned positions.
fn planned(plan: &Leaves, tree: &impl TreeObject, name: &str) -> Result<Leaves> {
    check_planned(plan, gather(plan, tree, name)?, name, false)
}

/// A step in place cuts the graph, so gradients and parameters by which an outer function is differentiated are an error.
fn check_constant(tree: &(impl TreeObject + Clone)) -> Result<()> {
    if !is_recording() || !tree.leaves().iter().any(|(_, _, leaf)| leaf.is_tracked()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Gradient, "an optimizer's step would cut a gradient: its arguments are being differentiated").remedy(
        "for a differentiable step write `model.zip_map(&grads, |p, g| ..)?`; for constants pass `stop_gradient` of both",
    ))
}

/// All leaves of `tree`, which must have the structure of the plan.
fn gather(plan: &Leaves, tree: &impl TreeObject, name: &str) -> Result<Leaves> {
    plan.gather(tree, &format!("the {name}")).map_err(other_structure)
}

fn other_structure(error: Error) -> Error {
    error.remedy("pass the model that the optimizer was initialized with, or a filtered tree of it; after surgery, call `optimizer.reconcile(&model)?`")
}

/// The gradients at the planned positions, without those of leaves that are frozen in `params`; `of_examples` with the
/// examples on a first axis.
fn planned_gradient(
    plan: &Leaves,
    grads: &impl TreeObject,
    params: &Leaves,
    of_examples: bool,
) -> Result<Leaves> {
    let grads = without_frozen(plan, gather(plan, grads, "gradient")?, params)?;
    check_planned(plan, grads, "gradient", of_examples)
}

/// Drops the gradients of frozen leaves, and refuses that of a leaf that was frozen at `init` and no longer is.
fn without_frozen(plan: &Leaves, grads: Leaves, params: &Leaves) -> Result<Leaves> {
    grads.retain(|index, gradient| match params.is_frozen(index) {
        true => Ok(false),
        false if plan.is_frozen(index) && gradient.value().is_some() => {
            let message = "a leaf was frozen when the optimizer was initialized, so it has no state";
            Err(Error::new(ErrorKind::Frozen, message)
                .remedy("call `let (mut optimizer, _) = optimizer.reconcile(&model)?` after `unfreeze`"))
        }
        false => Ok(true),
    })
}

/// Checks the gathered leaves, and drops those without a value.
fn check_planned(plan: &Leaves, leaves: Leaves, name: &str, of_examples: bool) -> Result<Leaves> {
    leaves.retain(|index, leaf| {
        let (Some(planned), Some(found)) = (plan.get(index), leaf.value()) else { return Ok(false) };
        let own = if of_examples { found.dims().get(1..) } else { Some(found.dims()) };
        if own != Some(planned.dims()) {
            let shape = if of_examples { "the examples on a first axis, then " } else { "" };
            let error =
                Error::shape(format!("a leaf of the {name} differs in shape from the optimizer's `init`"))
                    .expected(format!("{shape}{:?}", planned.dims()));
            let error = match of_examples {
                true => error.remedy("pass the gradients of single examples: `per_example_grads`"),
                false => error.remedy("a changed model needs an optimizer that is initialized with it"),
            };
            return Err(error.found(format!("{:?}", found.dims())));
        }
        if !found.dtype().is_float() {
            return Err(Error::new(ErrorKind::DType, format!("a leaf of the {name} cannot be trained with"))
                .expected("floats")
                .found(format!("`{}`", found.dtype().as_str())));
        }
        Ok(true)
    })
}

/// An error unless every gradient has a parameter.
fn check_params(grads: &Leaves, params: &Leaves) -> Result<()> {
    for (index, leaf) in grads.iter().enumerate() {
        if grads.get(index).is_some() && params.get(index).is_none() {
            return Err(Error::new(
                ErrorKind::FilteredOut,
                "a leaf has a gradient but no value in the model",
            )
            .at(leaf.segments())
            .remedy("update the whole model, or filter the gradient in the same way"));
        }
    }
    Ok(())
}
