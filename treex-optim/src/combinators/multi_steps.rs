//! Gradients gathered over several steps.

use treex_core::{Error, Leaves, Result, TreeObject};

use super::{Unchanged, is_finite, unchanged};
use crate::boxed::Member;
use crate::engine::{Number, Rule, Squares, Updates, sum};
use crate::numerics::zeros_like;
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::transformation::GradientTransformation;

/// The state of [`multi_steps`].
#[derive(Clone, Debug, TreeObject)]
pub struct MultiStepsState<S> {
    /// Gradients gathered so far towards the next step: an i64 without dimensions.
    pub mini_step: Count,
    /// Steps of the inner transformation: an i64 without dimensions.
    pub gradient_step: Count,
    /// Gradients that were skipped: an i64 without dimensions; no leaf where none can be.
    pub skipped: Option<Count>,
    /// The mean or sum of what was gathered: the parameters' shapes, f32 (f64 for f64 parameters).
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
    skip: Option<Skip>,
}

/// Which gradients [`multi_steps`] leaves out.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Skip {
    /// Those with an infinity, or something that is not a number.
    NotFinite,
    /// Those whose squares sum up to this or more, or to what is not a number.
    LargeUpdates {
        /// The square of the norm from which on they are skipped.
        max_squared_norm: f64,
    },
}

/// Steps once in `every_k` calls, by the mean of the gradients of those calls: a batch `every_k` times as
/// large in the memory of one.
///
/// ```text
/// acc = acc + (g - acc) / (i + 1)     at call i = 0 .. k - 1
/// u   = inner(acc),  acc = 0          at call k - 1; before, parameters stay bit for bit
/// ```
///
/// The inner transformation is not run between its steps, so its counts and moments are those of a training
/// with the larger batch, and a leaf whose gradient is missing at a call keeps its part for the next one.
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
    MultiSteps { inner, every_k: Schedule::from(every_k as f64), mean: true, skip: None }
}

impl<T> MultiSteps<T> {
    /// How many calls make a step, as a schedule of the number of steps before: at least 1, rounded.
    #[must_use]
    pub fn every(self, every_k: impl Into<Schedule>) -> Self {
        Self { every_k: every_k.into(), ..self }
    }

    /// Whether to step by the mean of the gradients, as by default, or by their sum.
    #[must_use]
    pub fn mean(self, mean: bool) -> Self {
        Self { mean, ..self }
    }

    /// Leaves gradients out. Everything then stays as it was, but the count of what was skipped.
    #[must_use]
    pub fn skip(self, skip: Skip) -> Self {
        Self { skip: Some(skip), ..self }
    }
}

impl Skip {
    fn applies_to(self, grads: &Leaves) -> Result<bool> {
        match self {
            Self::NotFinite => Ok(!is_finite(grads)?),
            Self::LargeUpdates { max_squared_norm } => {
                let squares = sum(Squares, grads, grads)?.total(0);
                // What is not a number is not smaller either.
                Ok(squares.is_nan() || squares >= max_squared_norm)
            }
        }
    }
}

impl<T: GradientTransformation> MultiSteps<T> {
    fn gather<'a>(
        &'a self,
        updates: Updates<'a>,
        state: &'a mut MultiStepsState<T::State>,
    ) -> Result<Updates<'a>> {
        let every = self.every_k.at(Some(&state.gradient_step), "every_k")?.round();
        let gathered = state.mini_step.get()? as f64 + 1.;
        let emit = gathered >= every;
        let rule = Gather { mean: self.mean.then_some(1. / gathered), emit };
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
        Ok(MultiStepsState {
            mini_step: Count::zero()?,
            gradient_step: Count::zero()?,
            skipped: self.skip.map(|_| Count::zero()).transpose()?,
            acc_grads: zeros_like(params)?,
            inner_state: self.inner.init(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let Some(skip) = self.skip else { return self.gather(updates, state) };
        let extra = updates.extra();
        Ok(updates.tensors(move |grads, params| {
            if skip.applies_to(&grads)? {
                state.skipped.as_mut().map(Count::advance).transpose()?;
                return unchanged(&grads);
            }
            self.gather(Updates::new(grads, params.clone()).with_extra(extra), state)?.compute()
        }))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.inner, &state.inner_state)]
    }
}

/// One call.
struct Gather {
    /// The weight of this gradient in the mean, or a sum.
    mean: Option<f64>,
    emit: bool,
}

impl Rule<1> for Gather {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [acc]: [N; 1]) -> (N, [N; 1]) {
        let acc = match self.mean {
            Some(weight) => acc.clone() + (g - acc) * weight,
            None => acc + g,
        };
        if self.emit { (acc, [N::constant(0.)]) } else { (acc.clone(), [acc]) }
    }
}
