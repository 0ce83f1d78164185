//! Gradient accumulation.

use std::fmt;
use std::sync::Arc;

use candle_core::DType;
use treex_core::{Error, Leaves, Result, TreeObject};

use super::{Unchanged, is_finite, unchanged};
use crate::engine::{Number, Rule, Squares, Updates, sum};
use crate::numerics::{check_float, zeros_in};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::transformation::GradientTransformation;
use crate::transformation::Member;

/// The state of [`multi_steps`].
#[derive(Clone, Debug, TreeObject)]
pub struct MultiStepsState<S> {
    /// The number of gradients accumulated for the next step: a scalar i64.
    pub mini_step: Count,
    /// The number of steps of the inner transformation: a scalar i64.
    pub gradient_step: Count,
    /// The number of skipped gradients: a scalar i64; no leaf if none can be skipped.
    pub skipped: Option<Count>,
    /// The mean or sum of the accumulated gradients: the parameters' shapes, f32 (f64 for f64 parameters), or
    /// `accumulator_dtype`.
    pub acc_grads: Leaves,
    /// The state of the inner transformation.
    pub inner_state: S,
}

/// See [`multi_steps`].
#[derive(Clone, Debug)]
pub struct MultiSteps<T> {
    inner: T,
    every_k: Schedule,
    mean: bool,
    skip: Option<SkipUpdate>,
    accumulator_dtype: Option<DType>,
}

/// What decides which gradients are skipped.
#[derive(Clone)]
enum SkipUpdate {
    Ready(Skip),
    Own(Arc<ShouldSkip>),
}

type ShouldSkip = dyn Fn(&Leaves, u64, &Leaves) -> Result<bool> + Send + Sync;

impl fmt::Debug for SkipUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(skip) => skip.fmt(f),
            Self::Own(_) => f.write_str("should_skip_update_fn"),
        }
    }
}

/// Which gradients [`multi_steps`] skips.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Skip {
    /// Those with an infinity or a NaN.
    NotFinite,
    /// Those whose squared norm is at least this, or NaN.
    LargeUpdates {
        /// The smallest squared norm that is skipped.
        max_squared_norm: f64,
    },
}

/// Applies the inner transformation once in `every_k` calls, to the mean of their gradients: a batch
/// `every_k` times as large in the memory of one.
///
/// ```text
/// acc = acc + (g - acc) / (i + 1)     at call i = 0 .. k - 1
/// u   = inner(acc),  acc = 0          at call k - 1; before, parameters stay bit-identical
/// ```
///
/// The inner transformation does not run between its steps, so its counts and moments are those of training
/// with the larger batch. A leaf without a gradient at a call keeps its accumulated gradient; without one at the last of the
/// `every_k` calls it makes no step, and the next mean replaces what it had: give zeros to a leaf that has no gradient.
///
/// ```
/// use treex_optim::{adamw, multi_steps, piecewise_constant};
///
/// let four_batches = multi_steps(adamw(1e-3), 4);
/// let more_and_more = multi_steps(adamw(1e-3), 1).every(piecewise_constant(1.0, [(1_000, 4.0)]));
/// # let _ = (four_batches, more_and_more);
/// ```
#[must_use]
pub fn multi_steps<T: GradientTransformation>(inner: T, every_k: u64) -> MultiSteps<T> {
    MultiSteps {
        inner,
        every_k: Schedule::from(every_k as f64),
        mean: true,
        skip: None,
        accumulator_dtype: None,
    }
}

impl<T> MultiSteps<T> {
    /// The number of calls per step, as a schedule of the number of previous steps: at least 1, rounded.
    #[must_use]
    pub fn every(self, every_k: impl Into<Schedule>) -> Self {
        Self { every_k: every_k.into(), ..self }
    }

    /// Whether to accumulate the mean of the gradients, or their sum. Default: true.
    #[must_use]
    pub fn mean(self, mean: bool) -> Self {
        Self { mean, ..self }
    }

    /// Skips some gradients: such a call changes nothing but the count of skipped ones.
    #[must_use]
    pub fn skip(self, skip: Skip) -> Self {
        Self { skip: Some(SkipUpdate::Ready(skip)), ..self }
    }

    /// [`skip`](Self::skip) of the gradients for which `f` of them, of the number of steps of the inner transformation so
    /// far, and of the parameters is true.
    ///
    /// ```
    /// use treex_optim::{adamw, global_norm, multi_steps};
    ///
    /// // A bound on the norm that shrinks with the steps.
    /// let bounded = multi_steps(adamw(1e-3), 4)
    ///     .should_skip_update_fn(|grads, step, _params| Ok(global_norm(grads)? > 10.0 / (1.0 + step as f64)));
    /// # let _ = bounded;
    /// ```
    #[must_use]
    pub fn should_skip_update_fn(
        self,
        f: impl Fn(&Leaves, u64, &Leaves) -> Result<bool> + Send + Sync + 'static,
    ) -> Self {
        Self { skip: Some(SkipUpdate::Own(Arc::new(f))), ..self }
    }

    /// The element type of the accumulated gradients.
    #[must_use]
    pub fn accumulator_dtype(self, accumulator_dtype: impl Into<Option<DType>>) -> Self {
        Self { accumulator_dtype: accumulator_dtype.into(), ..self }
    }
}

impl SkipUpdate {
    fn applies_to(&self, grads: &Leaves, step: u64, params: &Leaves) -> Result<bool> {
        match self {
            Self::Ready(Skip::NotFinite) => Ok(!is_finite(grads)?),
            Self::Ready(Skip::LargeUpdates { max_squared_norm }) => {
                let squares = sum(Squares, grads, grads)?.total(0);
                // NaN is not smaller, so check for it.
                Ok(squares.is_nan() || squares >= *max_squared_norm)
            }
            Self::Own(should_skip) => should_skip(grads, step, params),
        }
    }
}

impl<T: GradientTransformation> MultiSteps<T> {
    fn accumulate<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut MultiStepsState<T::State>,
    ) -> Result<Updates<'a>> {
        let every = self.every_k.at(Some(&state.gradient_step), "every_k")?.round();
        let accumulated = state.mini_step.get()? as f64 + 1.;
        let emit = accumulated >= every;
        let rule = Accumulate { mean: self.mean.then_some(1. / accumulated), emit };
        let updates = updates.map(rule, [&mut state.acc_grads])?;
        if !emit {
            state.mini_step.advance()?;
            return updates.map(Unchanged, []);
        }
        state.mini_step = Count::zero()?;
        state.gradient_step.advance()?;
        self.inner.update(updates, &mut state.inner_state)
    }
}

impl<T: GradientTransformation> GradientTransformation for MultiSteps<T> {
    type State = MultiStepsState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        self.every_k.check("every_k")?;
        if self.every_k.value(0) < 1. {
            return Err(Error::argument("`every_k` is too small")
                .expected("1 or more")
                .found(self.every_k.value(0)));
        }
        check_float("accumulator_dtype", self.accumulator_dtype)?;
        Ok(MultiStepsState {
            mini_step: Count::zero()?,
            gradient_step: Count::zero()?,
            skipped: self.skip.as_ref().map(|_| Count::zero()).transpose()?,
            acc_grads: zeros_in(params, self.accumulator_dtype)?,
            inner_state: self.inner.init(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let Some(skip) = &self.skip else { return self.accumulate(updates, state) };
        let extra = updates.extra();
        Ok(updates.tensors(move |grads, params| {
            if skip.applies_to(&grads, state.gradient_step.get()?, params)? {
                state.skipped.as_mut().map(Count::advance).transpose()?;
                return unchanged(&grads);
            }
            self.accumulate(Updates::new(grads, params.clone()).with_extra(extra), state)?.compute()
        }))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.inner, &state.inner_state)]
    }
}

/// One call.
struct Accumulate {
    /// The weight of this gradient in the mean, or a sum.
    mean: Option<f64>,
    emit: bool,
}

impl Rule<1> for Accumulate {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [acc]: [N; 1]) -> (N, [N; 1]) {
        let acc = match self.mean {
            Some(weight) => acc.clone() + (g - acc) * weight,
            None => acc + g,
        };
        if self.emit { (acc, [N::constant(0.)]) } else { (acc.clone(), [acc]) }
    }
}
