//! Hyperparameters that can be read and written during training.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use treex_core::{Error, LeafRef, Leaves, Result, TreeObject};

use crate::engine::Updates;
use crate::numerics::check_finite;
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::step_size::StepSize;
use crate::transformation::{GradientTransformation, Member};

/// The state of [`inject_hyperparams`].
#[derive(Clone, Debug, TreeObject)]
pub struct InjectHyperparamsState<S, T> {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// By name, the value of the last step, and of the next one unless it is overwritten: a scalar f64.
    pub hyperparams: BTreeMap<String, Scalar>,
    /// By name, the value that a schedule had at the last step; that of the first before it: a scalar f64.
    pub scheduled: BTreeMap<String, Scalar>,
    /// The state of the inner transformation.
    pub inner_state: S,
    /// The transformation with these hyperparameters.
    #[tree(skip)]
    inner: T,
}

/// See [`inject_hyperparams`].
#[derive(Clone)]
pub struct InjectHyperparams<T> {
    hyperparams: Vec<(String, Schedule)>,
    factory: Arc<Factory<T>>,
}

type Factory<T> = dyn Fn(&Hyperparams) -> Result<T> + Send + Sync;

/// The hyperparameters of one step, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparams {
    values: BTreeMap<String, f64>,
    /// The names that were read.
    used: RefCell<BTreeSet<String>>,
}

impl Hyperparams {
    /// A hyperparameter.
    ///
    /// # Errors
    /// If the name is unknown.
    pub fn get(&self, name: &str) -> Result<f64> {
        let value = self.values.get(name).copied().ok_or_else(|| {
            Error::argument(format!("unknown hyperparameter `{name}`"))
                .expected(format!("one of {:?}", self.values.keys().collect::<Vec<_>>()))
                .remedy("name it in `inject_hyperparams`")
        })?;
        self.used.borrow_mut().insert(name.to_owned());
        Ok(value)
    }

    /// An error for a hyperparameter that was not read: writing it would do nothing.
    fn check_used(&self) -> Result<()> {
        let used = self.used.borrow();
        match self.values.keys().find(|name| !used.contains(*name)) {
            Some(name) => Err(Error::argument(format!("the hyperparameter `{name}` does nothing"))
                .expected("the closure of `inject_hyperparams` to read each")
                .found(format!("{used:?}"))
                .remedy(format!("read it with `now.get(\"{name}\")?`, or remove it"))),
            None => Ok(()),
        }
    }
}

/// A transformation whose hyperparameters are leaves of its state: saved with it, read and written by name,
/// at any step. `factory` builds the transformation of each step from them.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use treex_core::{Leaf, Parameter, prelude::*};
/// use treex_optim::{Optimizer, adamw, inject_hyperparams};
///
/// # let x = Leaf::<Parameter>::new(Tensor::new(&[1f32, 2., 3.], &Device::Cpu)?)?;
/// let numbers = [("learning_rate", 1e-3.into()), ("weight_decay", 1e-2.into())];
/// let adamw = inject_hyperparams(numbers, |now| {
///     Ok(adamw(now.get("learning_rate")?).weight_decay(now.get("weight_decay")?))
/// });
/// let mut optimizer = Optimizer::new(adamw).init(&x)?;
/// optimizer.set_hyperparam("learning_rate", 1e-4)?;
/// assert_eq!(optimizer.hyperparam("learning_rate")?, 1e-4);
/// assert_eq!(optimizer.learning_rate()?, Some(1e-4));
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// A [`Schedule`] that is not constant sets its hyperparameter at each step, as in Optax, so to write one is an
/// error; the inner transformation should have no schedule of its own. The structure of its state must not depend
/// on the hyperparameters. Two of one name, and one that the closure does not read, are errors of `init`.
#[must_use]
pub fn inject_hyperparams<T: GradientTransformation, N: Into<String>>(
    hyperparams: impl IntoIterator<Item = (N, Schedule)>,
    factory: impl Fn(&Hyperparams) -> Result<T> + Send + Sync + 'static,
) -> InjectHyperparams<T> {
    InjectHyperparams {
        hyperparams: hyperparams.into_iter().map(|(name, schedule)| (name.into(), schedule)).collect(),
        factory: Arc::new(factory),
    }
}

impl<T> fmt::Debug for InjectHyperparams<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InjectHyperparams").field("hyperparams", &self.hyperparams).finish_non_exhaustive()
    }
}

impl<T: GradientTransformation> InjectHyperparams<T> {
    /// The hyperparameters of the step after `count` steps.
    fn at(&self, hyperparams: &BTreeMap<String, Scalar>, count: &Count) -> Result<Hyperparams> {
        let mut values = BTreeMap::new();
        for (name, schedule) in &self.hyperparams {
            let value = match hyperparams.get(name) {
                Some(own) => own.get()?,
                None => schedule.at(Some(count), name)?,
            };
            check_finite(name, value)?;
            values.insert(name.clone(), value);
        }
        Ok(Hyperparams { values, used: RefCell::default() })
    }
}

impl<T: GradientTransformation> GradientTransformation for InjectHyperparams<T> {
    type State = InjectHyperparamsState<T::State, T>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        let (mut hyperparams, mut scheduled) = (BTreeMap::new(), BTreeMap::new());
        for (name, schedule) in &self.hyperparams {
            schedule.check(name)?;
            if hyperparams.contains_key(name) || scheduled.contains_key(name) {
                return Err(Error::argument(format!("two hyperparameters are named `{name}`"))
                    .remedy("give each a name of its own"));
            }
            let own = if schedule.is_constant() { &mut hyperparams } else { &mut scheduled };
            own.insert(name.clone(), Scalar::new(schedule.value(0))?);
        }
        let count = Count::zero()?;
        let first = self.at(&hyperparams, &count)?;
        let inner = (self.factory)(&first)?;
        first.check_used()?;
        Ok(InjectHyperparamsState { count, hyperparams, scheduled, inner_state: inner.init(params)?, inner })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let now = self.at(&state.hyperparams, &state.count)?;
        for (name, value) in &mut state.scheduled {
            value.set(now.get(name)?)?;
        }
        state.count.advance()?;
        state.inner = (self.factory)(&now)?;
        let InjectHyperparamsState { inner, inner_state, .. } = state;
        inner.update(updates, inner_state)
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&state.inner, &state.inner_state)]
    }

    fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        let next = self.at(&state.hyperparams, &state.count)?;
        (self.factory)(&next)?.step_size(&state.inner_state, leaf)
    }

    /// With the numbers in the state: the transformation of the last step does not have those loaded since.
    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        let mut now = self.at(&state.hyperparams, &state.count)?;
        for (name, value) in &state.scheduled {
            now.values.insert(name.clone(), value.get()?);
        }
        (self.factory)(&now)?.eval_params(&state.inner_state, params)
    }
}
