//! Transformations without their types, for a choice at run time.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use treex_core::{Leaves, ModuleId, Result, TreeObject, Visitor, VisitorMut};

use crate::engine::Updates;
use crate::transformation::{Extra, GradientTransformation, foreign_state};

/// Any [`GradientTransformation`], its type forgotten; see [`GradientTransformation::boxed`]. The paths in its
/// state are those of the transformation inside.
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

    fn update<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut BoxedState,
        params: &Leaves,
        extra: &'a Extra<'a>,
    ) -> Result<Updates<'a>> {
        self.0.erased_update(updates, state, params, extra)
    }

    fn learning_rate(&self, state: &BoxedState) -> Result<Option<f64>> {
        self.0.erased_learning_rate(state)
    }

    fn eval_params(&self, state: &BoxedState, params: &Leaves) -> Result<Option<Leaves>> {
        self.0.erased_eval_params(state, params)
    }

    fn boxed(self) -> Boxed {
        self
    }
}

/// [`GradientTransformation`] with the type of the state forgotten.
trait Erased: fmt::Debug + Send + Sync {
    fn erased_init(&self, params: &Leaves) -> Result<BoxedState>;
    fn erased_update<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut BoxedState,
        params: &Leaves,
        extra: &'a Extra<'a>,
    ) -> Result<Updates<'a>>;
    fn erased_learning_rate(&self, state: &BoxedState) -> Result<Option<f64>>;
    fn erased_eval_params(&self, state: &BoxedState, params: &Leaves) -> Result<Option<Leaves>>;
}

impl<T: GradientTransformation> Erased for T {
    fn erased_init(&self, params: &Leaves) -> Result<BoxedState> {
        Ok(BoxedState(Box::new(self.init(params)?)))
    }

    fn erased_update<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut BoxedState,
        params: &Leaves,
        extra: &'a Extra<'a>,
    ) -> Result<Updates<'a>> {
        match state.0.as_any_mut().downcast_mut::<T::State>() {
            Some(state) => self.update(updates, state, params, extra),
            None => Err(foreign_state(self)),
        }
    }

    fn erased_learning_rate(&self, state: &BoxedState) -> Result<Option<f64>> {
        match state.0.as_any().downcast_ref::<T::State>() {
            Some(state) => self.learning_rate(state),
            None => Err(foreign_state(self)),
        }
    }

    fn erased_eval_params(&self, state: &BoxedState, params: &Leaves) -> Result<Option<Leaves>> {
        match state.0.as_any().downcast_ref::<T::State>() {
            Some(state) => self.eval_params(state, params),
            None => Err(foreign_state(self)),
        }
    }
}

/// What a state can do once its type is forgotten, and the way back to it.
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

    use crate::{Extra, GradientTransformation, adam, scale, sgd};

    #[test]
    fn a_state_of_another_transformation_is_refused() {
        let params = ().flatten();
        let mut state = sgd(0.1).boxed().init(&params).unwrap();
        let error =
            adam(0.1).boxed().updates(params.clone(), &mut state, &params, &Extra::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the state belongs to another transformation: expected what `init` of")
        );
        assert!(adam(0.1).boxed().learning_rate(&state).is_err());

        let mut without = None;
        assert!(Some(scale(1.)).updates(params.clone(), &mut without, &params, &Extra::default()).is_err());
    }
}
