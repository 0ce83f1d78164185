//! Sharpness-aware minimization.

use treex_core::{Error, ErrorKind, LeafRef, Leaves, Result, TreeObject};

use crate::combinators::{copied, in_place_of};
use crate::engine::{Times, Updates};
use crate::extra::Extra;
use crate::linesearch::add_scaled;
use crate::scalar::Count;
use crate::step_size::StepSize;
use crate::transformation::GradientTransformation;
use crate::transformation::Member;

/// The state of [`sam`].
#[derive(Clone, Debug, TreeObject)]
pub struct SamState<S, A> {
    /// The number of steps since the parameters were those of the optimizer: a scalar i64.
    pub steps_since_sync: Count,
    /// The state of the optimizer.
    pub opt_state: S,
    /// The state of the ascent.
    pub adv_state: A,
    /// The parameters before the ascent: their shapes, f32 (f64 for f64 parameters).
    pub cache: Leaves,
}

/// See [`sam`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sam<T, A> {
    optimizer: T,
    adv_optimizer: A,
    sync_period: u64,
    reset_state: bool,
    opaque: bool,
}

/// Descends along the gradient at an adversarial point nearby, so that flat minima are preferred. Of each
/// `sync_period` (2) updates all but the last ascend, by the negative of `adv_optimizer`'s updates; the last
/// returns to the start and makes a step of `optimizer` with the gradient at the adversarial point:
///
/// ```text
/// p = p - adv_optimizer(g)                      sync_period - 1 times
/// p = p0 + optimizer(g at the adversarial point), where p0 is the start of the ascent
/// ```
///
/// So one step takes two gradients, and the model is at the optimizer's parameters only after every second
/// update. [`opaque`](Sam::opaque) makes a whole step in one update.
///
/// ```
/// use treex_optim::{chain, normalize, sam, sgd};
///
/// let optimizer = sam(sgd(0.1), chain((normalize(), sgd(0.05))));
/// # let _ = optimizer;
/// ```
///
/// Foret et al., [Sharpness-aware minimization for efficiently improving
/// generalization](https://arxiv.org/abs/2010.01412), 2020.
#[must_use]
pub fn sam<T, A>(optimizer: T, adv_optimizer: A) -> Sam<T, A>
where
    T: GradientTransformation,
    A: GradientTransformation,
{
    Sam { optimizer, adv_optimizer, sync_period: 2, reset_state: true, opaque: false }
}

impl<T, A> Sam<T, A> {
    /// The number of gradients per step.
    #[must_use]
    pub fn sync_period(self, sync_period: u64) -> Self {
        Self { sync_period, ..self }
    }

    /// Whether to reset the ascent's state at each step. Default: true.
    #[must_use]
    pub fn reset_state(self, reset_state: bool) -> Self {
        Self { reset_state, ..self }
    }

    /// Whether one update ascends and steps, evaluating the other gradients itself. Needs
    /// [`Optimizer::minimize`](crate::Optimizer::minimize). Default: false.
    #[must_use]
    pub fn opaque(self, opaque: bool) -> Self {
        Self { opaque, ..self }
    }
}

impl<T: GradientTransformation, A: GradientTransformation> Sam<T, A> {
    fn whole_step(
        &self,
        mut grads: Leaves,
        state: &mut SamState<T::State, A::State>,
        params: &Leaves,
        extra: Extra<'_>,
    ) -> Result<Leaves> {
        let value_fn = extra.value_fn.ok_or_else(|| {
            Error::new(ErrorKind::Argument, "an opaque `sam` needs the loss")
                .expected("its gradient at other parameters")
                .remedy("step with `optimizer.minimize(&mut model, |model| ...)`")
        })?;
        let mut top = params.clone();
        for _ in 1..self.sync_period {
            let climb = self
                .adv_optimizer
                .update(Updates::new(grads, top.clone()).with_extra(extra), &mut state.adv_state)?
                .compute()?;
            top = add_scaled(&top, -1., &climb)?;
            (_, grads) = value_fn(&top)?;
        }
        if self.reset_state {
            state.adv_state = self.adv_optimizer.init(&state.cache)?;
        }
        self.optimizer
            .update(Updates::new(grads, params.clone()).with_extra(extra), &mut state.opt_state)?
            .compute()
    }
}

impl<T: GradientTransformation, A: GradientTransformation> GradientTransformation for Sam<T, A> {
    type State = SamState<T::State, A::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        if self.sync_period < 1 {
            return Err(Error::argument("`sync_period` is too small").expected("1 or more").found(0));
        }
        Ok(SamState {
            steps_since_sync: Count::zero()?,
            opt_state: self.optimizer.init(params)?,
            adv_state: self.adv_optimizer.init(params)?,
            cache: copied(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let extra = updates.extra();
        if self.opaque {
            return Ok(updates.tensors(move |grads, params| self.whole_step(grads, state, params, extra)));
        }
        let since = state.steps_since_sync.advance()?;
        let SamState { opt_state, adv_state, cache, .. } = state;
        if since < self.sync_period {
            if since == 1 {
                // All leaves: one without a gradient now may have one at the adversarial point.
                cache.store(&copied(updates.params())?)?;
            }
            return self.adv_optimizer.update(updates, adv_state)?.map(Times(-1.), []);
        }
        if self.reset_state {
            *adv_state = self.adv_optimizer.init(cache)?;
        }
        state.steps_since_sync = Count::zero()?;
        let climbed = since > 1;
        Ok(updates.tensors(move |grads, params| {
            if !climbed {
                return self
                    .optimizer
                    .update(Updates::new(grads, params.clone()).with_extra(extra), opt_state)?
                    .compute();
            }
            let base = params.combine(cache, |_, base| Ok(base.clone()))?;
            let updates = self
                .optimizer
                .update(Updates::new(grads, base.clone()).with_extra(extra), opt_state)?
                .compute()?;
            let back = base.combine(params, |base, p| Ok((base - p.to_dtype(base.dtype())?)?))?;
            back.rebuild(|index| match (back.get(index), updates.get(index)) {
                (Some(back), Some(update)) => Ok(Some((back + update.to_dtype(back.dtype())?)?)),
                (back, _) => Ok(back.cloned()),
            })
        }))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        let adversary = Member::new(&self.adv_optimizer, &state.adv_state);
        vec![adversary, Member::new(&self.optimizer, &state.opt_state)]
    }

    /// That of the ascent, if the next update ascends.
    fn step_size(&self, state: &Self::State, leaf: &LeafRef<'_>) -> Result<StepSize> {
        if !self.opaque && state.steps_since_sync.get()? + 1 < self.sync_period {
            return self.adv_optimizer.step_size(&state.adv_state, leaf);
        }
        self.optimizer.step_size(&state.opt_state, leaf)
    }

    /// During an ascent the model is at the adversarial point, and the parameters are those before it.
    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        if state.steps_since_sync.get()? == 0 {
            return self.optimizer.eval_params(&state.opt_state, params);
        }
        let own = in_place_of(params, &state.cache)?;
        Ok(Some(self.optimizer.eval_params(&state.opt_state, &own)?.unwrap_or(own)))
    }
}
