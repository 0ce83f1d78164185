//! Hyperparameters that can be read and written during training.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use treex_core::{Error, Leaves, Result, TreeObject};

use crate::engine::Updates;
use crate::numerics::check_finite;
use crate::scalar::Count;
use crate::scalar::Scalar;
use crate::schedule::Schedule;
use crate::transformation::GradientTransformation;

/// The state of [`inject_hyperparams`].
#[derive(Clone, Debug, TreeObject)]
pub struct InjectHyperparamsState<S, T> {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// By name, the value of the last step, and of the next one unless it is overwritten: a scalar f64.
    pub hyperparams: BTreeMap<String, Scalar>,
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
pub struct Hyperparams(BTreeMap<String, f64>);

impl Hyperparams {
    /// A hyperparameter.
    ///
    /// # Errors
    /// If the name is unknown.
    pub fn get(&self, name: &str) -> Result<f64> {
        self.0.get(name).copied().ok_or_else(|| {
            Error::argument(format!("unknown hyperparameter `{name}`"))
                .expected(format!("one of {:?}", self.0.keys().collect::<Vec<_>>()))
                .remedy("name it in `inject_hyperparams`")
        })
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
/// A [`Schedule`] that is not constant overwrites its hyperparameter at each step, as in Optax; the inner
/// transformation should have no schedule of its own. The structure of its state must not depend on the
/// hyperparameters.
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
    fn build(&self, hyperparams: &BTreeMap<String, Scalar>) -> Result<T> {
        let read = |(name, value): (&String, &Scalar)| {
            let value = value.get()?;
            check_finite(name, value)?;
            Ok((name.clone(), value))
        };
        (self.factory)(&Hyperparams(hyperparams.iter().map(read).collect::<Result<_>>()?))
    }

    /// Writes the hyperparameters that have a schedule.
    fn follow(&self, hyperparams: &mut BTreeMap<String, Scalar>, count: &Count) -> Result<()> {
        for (name, schedule) in self.hyperparams.iter().filter(|(_, schedule)| !schedule.is_constant()) {
            if let Some(value) = hyperparams.get_mut(name) {
                value.set(schedule.at(Some(count), name)?)?;
            }
        }
        Ok(())
    }
}

impl<T: GradientTransformation> GradientTransformation for InjectHyperparams<T> {
    type State = InjectHyperparamsState<T::State, T>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        let mut hyperparams = BTreeMap::new();
        for (name, schedule) in &self.hyperparams {
            schedule.check(name)?;
            hyperparams.insert(name.clone(), Scalar::new(schedule.value(0))?);
        }
        let inner = self.build(&hyperparams)?;
        Ok(InjectHyperparamsState {
            count: Count::zero()?,
            hyperparams,
            inner_state: inner.init(params)?,
            inner,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        self.follow(&mut state.hyperparams, &state.count)?;
        state.count.advance()?;
        state.inner = self.build(&state.hyperparams)?;
        let InjectHyperparamsState { inner, inner_state, .. } = state;
        inner.update(updates, inner_state)
    }

    fn learning_rate(&self, state: &Self::State) -> Result<Option<f64>> {
        let mut next = state.hyperparams.clone();
        self.follow(&mut next, &state.count)?;
        self.build(&next)?.learning_rate(&state.inner_state)
    }

    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        state.inner.eval_params(&state.inner_state, params)
    }
}
