//! Type-erased transformations, to choose one at run time.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use treex_core::{Leaves, ModuleId, Result, TreeObject, Visitor, VisitorMut};

use crate::engine::Updates;
use crate::transformation::{GradientTransformation, foreign_state};

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

    /// [`GradientTransformation::learning_rate`].
    pub(crate) fn learning_rate(&self) -> Result<Option<f64>> {
        self.transformation.erased_learning_rate(self.state)
    }

    /// [`GradientTransformation::eval_params`].
    pub(crate) fn eval_params(&self, params: &Leaves) -> Result<Option<Leaves>> {
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

/// [`GradientTransformation`] with a type-erased state.
trait Erased: fmt::Debug + Send + Sync {
    fn erased_init(&self, params: &Leaves) -> Result<BoxedState>;
    fn erased_update<'a>(&'a self, updates: Updates<'a>, state: &'a mut BoxedState) -> Result<Updates<'a>>;
    fn erased_learning_rate(&self, state: &dyn Any) -> Result<Option<f64>>;
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

    fn erased_learning_rate(&self, state: &dyn Any) -> Result<Option<f64>> {
        match state.downcast_ref::<T::State>() {
            Some(state) => self.learning_rate(state),
            None => Err(foreign_state(self)),
        }
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
        assert!(adam(0.1).boxed().learning_rate(&state).is_err());

        let mut without = None;
        assert!(Some(scale(1.)).update(updates(), &mut without).is_err());
    }
}
