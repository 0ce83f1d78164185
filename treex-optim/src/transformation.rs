//! The trait of gradient transformations, and its type-erased form.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use treex_core::{Error, ErrorKind, LeafRef, Leaves, ModuleId, Result, TreeObject, Visitor, VisitorMut};

use crate::engine::Updates;
use crate::step_size::StepSize;

/// Turns gradients into updates, and keeps a state from step to step.
///
/// The transformation itself holds options and no tensors; the state is a tree. All trees here are flat
/// ([`Leaves`]), so a state is not generic over the model: position by position, updates and `params` are the
/// leaves of the trained model, and empty where a leaf is not part of the step.
///
/// **Sign.** Every transformation keeps the gradient's sign, and an update is *added* to its parameter. The
/// minus sign of gradient descent enters once, in [`scale_by_learning_rate`](crate::scale_by_learning_rate).
///
/// **Element types.** For narrower types an update is computed in f32, and rounded only when it is added to
/// the parameter. A state keeps the types that `init` gave it.
///
/// ```
/// use treex_core::Result;
/// use treex_optim::Stateless;
/// use treex_optim::engine::{Number, Rule, Updates};
///
/// /// The sign of each element.
/// #[derive(Clone, Debug)]
/// struct Sign;
///
/// impl Rule<0> for Sign {
///     #[inline(always)]
///     fn apply<N: Number>(&self, u: N, _p: N, []: [N; 0]) -> (N, [N; 0]) {
///         (u.sign(), [])
///     }
/// }
///
/// impl Stateless for Sign {
///     fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
///         updates.map(Self, [])
///     }
/// }
/// ```
pub trait GradientTransformation: Clone + fmt::Debug + Send + Sync + 'static {
    /// The state that it keeps from step to step.
    type State: TreeObject + Clone + fmt::Debug + 'static;

    /// The state before the first step.
    ///
    /// A state that keeps parameters must copy them: `params` are views, which training overwrites.
    ///
    /// # Errors
    /// If an option is out of range.
    fn init(&self, params: &Leaves) -> Result<Self::State>;

    /// Records what one step does with the updates; parameters and loss are those that
    /// [`updates`](Updates) carries. A leaf without an update is skipped, and its state stays. After an error
    /// the state may be partly written; the [`Optimizer`](crate::Optimizer) passes a copy.
    ///
    /// Without an `Optimizer`, [`Updates::compute`] runs it:
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use treex_core::{Leaf, Parameter, prelude::*};
    /// # use treex_optim::{GradientTransformation, engine::Updates, trace};
    /// # let leaf = |value: f32| Leaf::<Parameter>::new(Tensor::new(&[value], &Device::Cpu)?);
    /// let (params, grads) = (leaf(1.0)?.flatten(), leaf(2.0)?.flatten());
    /// let momentum = trace(0.5);
    /// let mut state = momentum.init(&params)?;
    /// for expected in [2.0, 3.0, 3.5] {
    ///     let updates = momentum.update(Updates::new(grads.clone(), params.clone()), &mut state)?;
    ///     assert_eq!(updates.compute()?.get(0).unwrap().to_vec1::<f32>()?, [expected]);
    /// }
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If leaves do not match, or an option is out of range.
    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>>;

    /// The transformations inside this one, in the order in which updates go through them, each with its part of
    /// `state`; `Vec::new()` for one that has none inside. The methods below ask them. It has no default, so that
    /// no wrapper forgets what it wraps.
    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>>;

    /// What this does to the size of a leaf's next step, from which
    /// [`Optimizer::learning_rate`](crate::Optimizer::learning_rate) follows. Default: what the members do, one
    /// after the other; without members, [`StepSize::direction`].
    ///
    /// # Errors
    /// If the state cannot be read, or a rate is not finite.
    fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        match self.members(state) {
            members if members.is_empty() => Ok(StepSize::direction()),
            members => in_sequence(members, leaf),
        }
    }

    /// The names of this transformation and of its members, by which a file with its state is known:
    /// `Chain(ScaleByAdam, ScaleByLearningRate)`. Numbers do not count, so that training can go on with another
    /// learning rate.
    fn structure(&self, state: &Self::State) -> String {
        let path = std::any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        let name = path.rsplit("::").next().unwrap_or(path);
        let members: Vec<_> = self.members(state).iter().map(Member::structure).collect();
        if members.is_empty() { name.to_owned() } else { format!("{name}({})", members.join(", ")) }
    }

    /// Whether gradients have the examples of a batch on a first axis, as
    /// [`differentially_private_aggregate`](crate::differentially_private_aggregate) expects them. Default: what the
    /// first member expects.
    fn takes_examples(&self, state: &Self::State) -> bool {
        self.members(state).first().is_some_and(Member::takes_examples)
    }

    /// The parameters to evaluate with, where they differ from those that are trained: an average, for
    /// example. Default: those of the first member that has some.
    ///
    /// # Errors
    /// If the state does not belong to `params`.
    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        first(self.members(state), |member| member.eval_params(params))
    }

    /// This transformation, type-erased, to choose one at run time.
    fn boxed(self) -> Boxed {
        Boxed::new(self)
    }
}

/// A [`GradientTransformation`] without a state.
pub trait Stateless: Clone + fmt::Debug + Send + Sync + 'static {
    /// Checks the options against the parameters.
    ///
    /// # Errors
    /// If an option is out of range.
    fn check(&self, _params: &Leaves) -> Result<()> {
        Ok(())
    }

    /// [`GradientTransformation::step_size`], which is the same for all leaves.
    fn effect(&self) -> StepSize {
        StepSize::direction()
    }

    /// [`GradientTransformation::update`] without a state.
    ///
    /// # Errors
    /// As `update`.
    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>>;
}

impl<T: Stateless> GradientTransformation for T {
    type State = ();

    fn init(&self, params: &Leaves) -> Result<()> {
        self.check(params)
    }

    fn update<'a>(&'a self, updates: Updates<'a>, _state: &'a mut ()) -> Result<Updates<'a>> {
        self.transform(updates)
    }

    fn members<'s>(&'s self, _state: &'s ()) -> Vec<Member<'s>> {
        Vec::new()
    }

    fn step_size(&self, _state: &(), _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(self.effect())
    }
}

/// `None` is the identity: an optional member of a chain.
impl<T: GradientTransformation> GradientTransformation for Option<T> {
    type State = Option<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        self.as_ref().map(|inner| inner.init(params)).transpose()
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        match (self, state) {
            (Some(inner), Some(state)) => inner.update(updates, state),
            (None, None) => Ok(updates),
            _ => Err(foreign_state(self)),
        }
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        self.iter().zip(state).map(|(inner, state)| Member::new(inner, state)).collect()
    }

    fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        in_sequence(self.members(state), leaf)
    }

    fn structure(&self, state: &Self::State) -> String {
        transparent(&self.members(state))
    }
}

/// The error for a state that another transformation made.
pub(crate) fn foreign_state(transformation: &impl fmt::Debug) -> Error {
    Error::new(ErrorKind::Structure, "the state belongs to another transformation")
        .expected(format!("a state from `init` of `{transformation:?}`"))
        .remedy("start from `init`, and load a saved state into that")
}

/// A type-erased [`GradientTransformation`]; see [`GradientTransformation::boxed`]. The paths in its state
/// are those of the transformation inside.
///
/// ```
/// use treex_optim::{Boxed, GradientTransformation, adam, sgd};
///
/// let choose = |name: &str| -> Boxed { if name == "adam" { adam(1e-3).boxed() } else { sgd(1e-2).boxed() } };
/// assert!(format!("{:?}", choose("adam")).contains("ScaleByAdam"));
/// ```
#[derive(Clone)]
pub struct Boxed(Arc<dyn Erased>);

impl Boxed {
    pub(crate) fn new(transformation: impl GradientTransformation) -> Self {
        Self(Arc::new(transformation))
    }
}

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of a [`Boxed`] transformation.
pub struct BoxedState(Box<dyn ErasedState>);

impl Clone for BoxedState {
    fn clone(&self) -> Self {
        self.0.boxed_clone()
    }
}

impl fmt::Debug for BoxedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

treex_core::tree_aux!([] BoxedState);

impl TreeObject for BoxedState {
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        self.0.visit(visitor);
    }

    fn visit_mut<'a>(&'a mut self, visitor: &mut dyn VisitorMut<'a>) {
        self.0.visit_mut(visitor);
    }

    fn identity(&self) -> Option<ModuleId> {
        self.0.identity()
    }
}

impl GradientTransformation for Boxed {
    type State = BoxedState;

    fn init(&self, params: &Leaves) -> Result<BoxedState> {
        self.0.erased_init(params)
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut BoxedState) -> Result<Updates<'a>> {
        self.0.erased_update(updates, state)
    }

    fn members<'s>(&'s self, state: &'s BoxedState) -> Vec<Member<'s>> {
        vec![Member { transformation: &*self.0, state: state.0.as_any() }]
    }

    fn structure(&self, state: &BoxedState) -> String {
        transparent(&self.members(state))
    }

    fn boxed(self) -> Boxed {
        self
    }
}

/// A transformation inside another one, with its state; see [`GradientTransformation::members`].
#[derive(Clone, Copy)]
pub struct Member<'s> {
    transformation: &'s dyn Erased,
    state: &'s dyn Any,
}

impl<'s> Member<'s> {
    /// A transformation and its state.
    pub fn new<T: GradientTransformation>(transformation: &'s T, state: &'s T::State) -> Self {
        Self { transformation, state }
    }

    /// [`GradientTransformation::step_size`].
    ///
    /// # Errors
    /// As there.
    pub fn step_size(&self, leaf: &LeafRef<'_>) -> Result<StepSize> {
        self.transformation.erased_step_size(self.state, leaf)
    }

    /// [`GradientTransformation::structure`].
    #[must_use]
    pub fn structure(&self) -> String {
        self.transformation.erased_structure(self.state)
    }

    /// [`GradientTransformation::takes_examples`].
    #[must_use]
    pub fn takes_examples(&self) -> bool {
        self.transformation.erased_takes_examples(self.state)
    }

    /// [`GradientTransformation::eval_params`].
    ///
    /// # Errors
    /// As there.
    pub fn eval_params(&self, params: &Leaves) -> Result<Option<Leaves>> {
        self.transformation.erased_eval_params(self.state, params)
    }
}

impl fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.transformation.fmt(f)
    }
}

/// The first answer that is not `None`.
pub(crate) fn first<R>(
    members: Vec<Member<'_>>,
    ask: impl Fn(Member<'_>) -> Result<Option<R>>,
) -> Result<Option<R>> {
    members.into_iter().find_map(|member| ask(member).transpose()).transpose()
}

/// What members do to the size of a step, one after the other.
pub(crate) fn in_sequence(members: Vec<Member<'_>>, leaf: &LeafRef<'_>) -> Result<StepSize> {
    members.iter().try_fold(StepSize::times(1.), |size, member| Ok(size.then(member.step_size(leaf)?)))
}

/// The structure of a wrapper that changes nothing.
fn transparent(members: &[Member<'_>]) -> String {
    members.first().map_or_else(|| "Identity".to_owned(), Member::structure)
}

/// The error for an average inside of a transformation whose updates are not those of the model's parameters.
pub(crate) fn no_average_inside(wrapper: &str) -> Error {
    Error::argument(format!("an average inside of `{wrapper}` is not one of the model's parameters"))
        .remedy(format!("average behind it: `chain(({wrapper}(..), params_ema(0.999)))`"))
}

/// [`GradientTransformation`] with a type-erased state.
trait Erased: fmt::Debug + Send + Sync {
    fn erased_init(&self, params: &Leaves) -> Result<BoxedState>;
    fn erased_update<'a>(&'a self, updates: Updates<'a>, state: &'a mut BoxedState) -> Result<Updates<'a>>;
    fn erased_step_size(&self, state: &dyn Any, leaf: &LeafRef<'_>) -> Result<StepSize>;
    fn erased_structure(&self, state: &dyn Any) -> String;
    fn erased_takes_examples(&self, state: &dyn Any) -> bool;
    fn erased_eval_params(&self, state: &dyn Any, params: &Leaves) -> Result<Option<Leaves>>;
}

impl<T: GradientTransformation> Erased for T {
    fn erased_init(&self, params: &Leaves) -> Result<BoxedState> {
        Ok(BoxedState(Box::new(self.init(params)?)))
    }

    fn erased_update<'a>(&'a self, updates: Updates<'a>, state: &'a mut BoxedState) -> Result<Updates<'a>> {
        match state.0.as_any_mut().downcast_mut::<T::State>() {
            Some(state) => self.update(updates, state),
            None => Err(foreign_state(self)),
        }
    }

    fn erased_step_size(&self, state: &dyn Any, leaf: &LeafRef<'_>) -> Result<StepSize> {
        match state.downcast_ref::<T::State>() {
            Some(state) => self.step_size(state, leaf),
            None => Err(foreign_state(self)),
        }
    }

    fn erased_structure(&self, state: &dyn Any) -> String {
        state.downcast_ref::<T::State>().map_or_else(String::new, |state| self.structure(state))
    }

    fn erased_takes_examples(&self, state: &dyn Any) -> bool {
        state.downcast_ref::<T::State>().is_some_and(|state| self.takes_examples(state))
    }

    fn erased_eval_params(&self, state: &dyn Any, params: &Leaves) -> Result<Option<Leaves>> {
        match state.downcast_ref::<T::State>() {
            Some(state) => self.eval_params(state, params),
            None => Err(foreign_state(self)),
        }
    }
}

/// A type-erased state, which can be downcast.
trait ErasedState: TreeObject + fmt::Debug {
    fn boxed_clone(&self) -> BoxedState;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<S: TreeObject + Clone + fmt::Debug + 'static> ErasedState for S {
    fn boxed_clone(&self) -> BoxedState {
        BoxedState(Box::new(self.clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use treex_core::prelude::*;

    use crate::engine::Updates;
    use crate::{GradientTransformation, adam, scale, sgd};

    #[test]
    fn a_state_of_another_transformation_is_refused() {
        let params = ().flatten();
        let mut state = sgd(0.1).boxed().init(&params).unwrap();
        let updates = || Updates::new(params.clone(), params.clone());
        let error = adam(0.1).boxed().update(updates(), &mut state).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the state belongs to another transformation: expected a state from `init` of")
        );
        assert!(adam(0.1).boxed().eval_params(&state, &params).is_err());

        let mut without = None;
        assert!(Some(scale(1.)).update(updates(), &mut without).is_err());
    }
}
