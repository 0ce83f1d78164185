//! What a gradient transformation is.

use std::fmt;

use treex_core::{Error, ErrorKind, Leaves, Result, TreeObject};

use crate::boxed::Boxed;
use crate::engine::{Updates, now};

/// A rule that turns gradients into updates, and remembers what it needs in a state of its own.
///
/// The rule itself is a value without tensors; the state is a tree. All trees here are flat ([`Leaves`]), so
/// that a state is not generic over the model: position by position, updates and `params` are the leaves of
/// the model that is trained, with nothing where a leaf takes no part in this step.
///
/// **Sign.** Every transformation keeps the gradient's sign, and an update is *added* to its parameter. The
/// minus of gradient descent enters once, in [`scale_by_learning_rate`](crate::scale_by_learning_rate).
///
/// **Element types.** An update is computed in f32 for narrower types, and stays so until it is added to the
/// parameter. A state keeps the types that `init` gave it.
///
/// ```
/// use treex_core::{Leaves, Result};
/// use treex_optim::engine::{Number, Rule, Updates};
/// use treex_optim::{Extra, Stateless};
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
///     fn transform<'a>(&'a self, updates: Updates<'a>, _: &Leaves, _: &Extra) -> Result<Updates<'a>> {
///         updates.map(Self, [])
///     }
/// }
/// ```
pub trait GradientTransformation: Clone + fmt::Debug + Send + Sync + 'static {
    /// What it remembers from step to step.
    type State: TreeObject + Clone + fmt::Debug + 'static;

    /// The state before the first step.
    ///
    /// What a state keeps of `params` it must copy: they are views, which training writes.
    ///
    /// # Errors
    /// If an option is outside of what it may be.
    fn init(&self, params: &Leaves) -> Result<Self::State>;

    /// Asks for what one step does with the updates. Where there is no update a leaf is skipped, and what the
    /// state holds for it stays. After an error the state may be half written; the
    /// [`Optimizer`](crate::Optimizer) hands in a copy.
    ///
    /// Who does not need `extra` writes `_: &Extra`.
    ///
    /// # Errors
    /// If leaves do not fit together, or an option is outside of what it may be.
    fn update<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut Self::State,
        params: &Leaves,
        extra: &'a Extra<'a>,
    ) -> Result<Updates<'a>>;

    /// The updates of one step as tensors, for use without an [`Optimizer`](crate::Optimizer).
    ///
    /// # Errors
    /// As [`update`](Self::update).
    fn updates(
        &self,
        grads: Leaves,
        state: &mut Self::State,
        params: &Leaves,
        extra: &Extra<'_>,
    ) -> Result<Leaves> {
        now(self.update(Updates::new(grads), state, params, extra)?, params)
    }

    /// The learning rate that the next step will use, if this is what applies one.
    ///
    /// # Errors
    /// If the state cannot be read, or the rate is not a finite number.
    fn learning_rate(&self, _state: &Self::State) -> Result<Option<f64>> {
        Ok(None)
    }

    /// The parameters to evaluate with, where those are not the ones that are trained: an average, say.
    ///
    /// # Errors
    /// If the state does not belong to `params`.
    fn eval_params(&self, _state: &Self::State, _params: &Leaves) -> Result<Option<Leaves>> {
        Ok(None)
    }

    /// This transformation without its type, for a choice at run time.
    fn boxed(self) -> Boxed {
        Boxed::new(self)
    }
}

/// A [`GradientTransformation`] that remembers nothing.
pub trait Stateless: Clone + fmt::Debug + Send + Sync + 'static {
    /// Looks at the options, and at what is to be trained.
    ///
    /// # Errors
    /// If an option is outside of what it may be.
    fn check(&self, _params: &Leaves) -> Result<()> {
        Ok(())
    }

    /// [`GradientTransformation::update`] without a state.
    ///
    /// # Errors
    /// As `update`.
    fn transform<'a>(&'a self, updates: Updates<'a>, params: &Leaves, extra: &Extra) -> Result<Updates<'a>>;
}

impl<T: Stateless> GradientTransformation for T {
    type State = ();

    fn init(&self, params: &Leaves) -> Result<()> {
        self.check(params)
    }

    fn update<'a>(
        &'a self,
        updates: Updates<'a>,
        _state: &'a mut (),
        params: &Leaves,
        extra: &'a Extra<'a>,
    ) -> Result<Updates<'a>> {
        self.transform(updates, params, extra)
    }
}

/// What a step may know beside gradients and parameters. Whoever does not need it ignores it.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub struct Extra<'a> {
    /// The value of the loss.
    pub value: Option<f64>,
    /// The gradient before any transformation. [`Optimizer::minimize`](crate::Optimizer::minimize) tells it.
    pub gradient: Option<&'a Leaves>,
    /// The loss and its gradient at other parameters, for a line search. So too.
    pub value_fn: Option<&'a ValueFn<'a>>,
}

/// The value and the gradient of a loss at some parameters.
pub type ValueFn<'a> = dyn Fn(&Leaves) -> Result<(f64, Leaves)> + 'a;

impl fmt::Debug for Extra<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extra").field("value", &self.value).finish_non_exhaustive()
    }
}

impl Extra<'_> {
    /// With the value of the loss.
    #[must_use]
    pub fn value(value: f64) -> Self {
        Self { value: Some(value), ..Self::default() }
    }
}

/// `None` changes nothing: a part of a chain that an option turns on.
impl<T: GradientTransformation> GradientTransformation for Option<T> {
    type State = Option<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        self.as_ref().map(|inner| inner.init(params)).transpose()
    }

    fn update<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut Self::State,
        params: &Leaves,
        extra: &'a Extra<'a>,
    ) -> Result<Updates<'a>> {
        match (self, state) {
            (Some(inner), Some(state)) => inner.update(updates, state, params, extra),
            (None, None) => Ok(updates),
            _ => Err(foreign_state(self)),
        }
    }

    fn learning_rate(&self, state: &Self::State) -> Result<Option<f64>> {
        match (self, state) {
            (Some(inner), Some(state)) => inner.learning_rate(state),
            _ => Ok(None),
        }
    }

    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        match (self, state) {
            (Some(inner), Some(state)) => inner.eval_params(state, params),
            _ => Ok(None),
        }
    }
}

/// The error for a state that another transformation made.
pub(crate) fn foreign_state(transformation: &impl fmt::Debug) -> Error {
    Error::new(ErrorKind::Structure, "the state belongs to another transformation")
        .expected(format!("what `init` of `{transformation:?}` gives"))
        .remedy("start from `init`, and load a saved state into that")
}
