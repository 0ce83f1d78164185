//! The updates of a step, and the work that a chain records on them.
//!
//! The members of a chain compute nothing; they record work: a rule for each element, sums over leaves, a
//! function of whole tensors. So errors in options, counts or shapes are reported before the first write, and
//! consecutive rules run in one pass.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use treex_core::{Error, ErrorKind, Filter, Leaves, Result};

use super::erased::{ErasedTerms, RuleImpl, Rules, TermsImpl};
use super::factor::{Factor, FactorImpl, Factors};
use super::rule::{Rule, Terms};
use super::sums::Sums;
use crate::extra::Extra;

/// The updates of one step, aligned with the parameters; empty where a leaf is not part of the step.
#[must_use]
pub struct Updates<'a> {
    pub(crate) incoming: Leaves,
    pub(crate) params: Leaves,
    extra: Extra<'a>,
    /// The positions with an update that was not dropped.
    pub(crate) present: Vec<bool>,
    /// Whether the incoming updates had examples on a first axis, and no longer have.
    is_summed: bool,
    /// The positions that the current transformation applies to.
    on: Mask,
    pub(crate) ops: Vec<Op<'a>>,
}

pub(crate) type Mask = Arc<[bool]>;

/// Recorded work, and its positions.
pub(crate) struct Op<'a> {
    pub(crate) on: Mask,
    pub(crate) work: Work<'a>,
}

pub(crate) enum Work<'a> {
    Rules {
        rules: Rules,
        state: Vec<&'a mut Leaves>,
    },
    /// Sums, then the rules that depend on them.
    Measured {
        terms: Box<dyn ErasedTerms>,
        then: Then<'a>,
        state: Vec<&'a mut Leaves>,
    },
    /// Factors that are functions of sums.
    Scaled {
        terms: Box<dyn ErasedTerms>,
        factors: Factors,
    },
    /// A function of updates and parameters.
    Tensors(TensorFn<'a>, InCapture),
}

/// What becomes of a function of tensors in a captured step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InCapture {
    /// It is an error: the function may be another one in the next step.
    Refused,
    /// It is recorded: what it does depends on its arguments alone.
    Recorded,
    /// It is recorded, and also called to look ahead: it has work of another optimizer in it, and does nothing else.
    LooksAhead,
}

type Then<'a> = Box<dyn FnOnce(Sums) -> Result<Rules> + 'a>;
pub(crate) type TensorFn<'a> = Box<dyn FnOnce(Leaves, &Leaves) -> Result<Leaves> + 'a>;

impl<'a> Updates<'a> {
    /// The incoming updates, usually gradients, and their parameters.
    pub fn new(incoming: Leaves, params: Leaves) -> Self {
        // Candle's kernels refuse tensors without elements on other devices: there is nothing to update in those.
        let has_update = |update: &Tensor| update.device().is_cpu() || update.elem_count() > 0;
        let present = (0..incoming.len()).map(|index| incoming.get(index).is_some_and(has_update));
        let present: Vec<_> = present.collect();
        let (on, extra) = (present.clone().into(), Extra::default());
        Self { incoming, params, extra, present, is_summed: false, on, ops: Vec::new() }
    }

    /// Sets the extra arguments of the step.
    pub fn with_extra(self, extra: Extra<'a>) -> Self {
        Self { extra, ..self }
    }

    /// The parameters before the step.
    #[must_use]
    pub fn params(&self) -> &Leaves {
        &self.params
    }

    /// The extra arguments of the step.
    #[must_use]
    pub fn extra(&self) -> Extra<'a> {
        self.extra
    }

    /// The number of positions, empty ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// Whether there are no positions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// Whether this transformation has an update at a position.
    #[must_use]
    pub fn has(&self, index: usize) -> bool {
        self.on.get(index) == Some(&true)
    }

    /// Applies a rule to each element. `state` has the rule's state values, and is overwritten.
    ///
    /// # Errors
    /// If the state of an update is missing or has another shape.
    pub fn map<R: Rule<K>, const K: usize>(self, rule: R, state: [&'a mut Leaves; K]) -> Result<Self> {
        self.check(&state)?;
        Ok(self.with(Work::Rules { rules: Rules::One(Box::new(RuleImpl(rule))), state: state.into() }))
    }

    /// [`map`](Self::map) with a rule per leaf.
    ///
    /// # Errors
    /// As `map`.
    pub fn map_each<R: Rule<K>, const K: usize>(
        self,
        rule: impl FnMut(usize) -> R,
        state: [&'a mut Leaves; K],
    ) -> Result<Self> {
        self.check(&state)?;
        let rules = each(self.len(), rule);
        Ok(self.with(Work::Rules { rules, state: state.into() }))
    }

    /// Applies a rule that depends on sums over all elements of the updates.
    ///
    /// # Errors
    /// As [`map`](Self::map). An error of `then` aborts the step half-way, so check everything else before.
    pub fn measure<S: Terms<M>, R: Rule<K>, const M: usize, const K: usize>(
        self,
        terms: S,
        state: [&'a mut Leaves; K],
        then: impl FnOnce(Sums) -> Result<R> + 'a,
    ) -> Result<Self> {
        self.check(&state)?;
        let then = Box::new(|sums| Ok(Rules::One(Box::new(RuleImpl(then(sums)?)))));
        Ok(self.with(Work::Measured { terms: Box::new(TermsImpl(terms)), then, state: state.into() }))
    }

    /// [`measure`](Self::measure) with a rule per leaf.
    ///
    /// # Errors
    /// As `measure`.
    pub fn measure_each<S: Terms<M>, R: Rule<K>, F, const M: usize, const K: usize>(
        self,
        terms: S,
        state: [&'a mut Leaves; K],
        then: impl FnOnce(Sums) -> Result<F> + 'a,
    ) -> Result<Self>
    where
        F: FnMut(usize) -> R,
    {
        self.check(&state)?;
        let count = self.len();
        let then = Box::new(move |sums| Ok(each(count, then(sums)?)));
        Ok(self.with(Work::Measured { terms: Box::new(TermsImpl(terms)), then, state: state.into() }))
    }

    /// Multiplies all updates by a function of sums over all their elements. On a device that has kernels nothing is read
    /// back.
    pub fn scale_by_sums<S: Terms<M>, F: Factor<M>, const M: usize>(self, terms: S, factor: F) -> Self {
        let factors = Factors::One(Box::new(FactorImpl(factor)));
        self.with(Work::Scaled { terms: Box::new(TermsImpl(terms)), factors })
    }

    /// [`scale_by_sums`](Self::scale_by_sums) with sums over each leaf, and a function for each. These differ in their
    /// constants alone.
    pub fn scale_each_by_sums<S: Terms<M>, F: Factor<M>, const M: usize>(
        self,
        terms: S,
        mut factor: impl FnMut(usize) -> F,
    ) -> Self {
        let factors =
            Factors::Each((0..self.len()).map(|index| Box::new(FactorImpl(factor(index))) as _).collect());
        self.with(Work::Scaled { terms: Box::new(TermsImpl(terms)), factors })
    }

    /// Applies a function of all updates and parameters as tensors, in the compute type, for computations
    /// that are not elementwise. It runs after all work recorded before it, and must return updates at the
    /// positions of its argument. An error in a [captured step](treex_core::capture()).
    pub fn tensors(self, f: impl FnOnce(Leaves, &Leaves) -> Result<Leaves> + 'a) -> Self {
        self.with(Work::Tensors(Box::new(f), InCapture::Refused))
    }

    /// [`tensors`](Self::tensors) for a function that does the same in each step: it depends on its arguments and on tensors of the
    /// state, not on a count or on another number of the host. A captured step repeats it.
    pub fn each_step(self, f: impl FnOnce(Leaves, &Leaves) -> Result<Leaves> + 'a) -> Self {
        self.with(Work::Tensors(Box::new(f), InCapture::Recorded))
    }

    /// [`tensors`](Self::tensors) for a function whose only work is that of another transformation.
    pub(crate) fn inner(self, f: impl FnOnce(Leaves, &Leaves) -> Result<Leaves> + 'a) -> Self {
        self.with(Work::Tensors(Box::new(f), InCapture::LooksAhead))
    }

    /// [`tensors`](Self::tensors) that turns the updates of single examples, with a first axis that the parameters do not
    /// have, into those of the parameters.
    pub(crate) fn sum_examples(self, f: impl FnOnce(Leaves, &Leaves) -> Result<Leaves> + 'a) -> Self {
        Self { is_summed: true, ..self.tensors(f) }
    }

    /// Applies `f` to the updates that `filter` selects; the others pass unchanged.
    ///
    /// # Errors
    /// The errors of `f`.
    pub fn masked(self, filter: &impl Filter, f: impl FnOnce(Self) -> Result<Self>) -> Result<Self> {
        let selected: Vec<_> = self.incoming.iter().map(|leaf| filter.selects(&leaf)).collect();
        self.masked_at(&selected, f)
    }

    /// [`masked`](Self::masked) by position.
    pub(crate) fn masked_at(
        mut self,
        selected: &[bool],
        f: impl FnOnce(Self) -> Result<Self>,
    ) -> Result<Self> {
        let outer = Arc::clone(&self.on);
        self.on = outer.iter().zip(selected).map(|(on, selected)| *on && *selected).collect();
        let mut updates = f(self)?;
        updates.on = outer;
        Ok(updates)
    }

    /// Drops the updates that `filter` does not select: their parameters do not change.
    pub fn only(mut self, filter: &impl Filter) -> Self {
        let selected: Vec<_> = self.incoming.iter().map(|leaf| filter.selects(&leaf)).collect();
        let keep = |(index, on): (usize, &bool)| *on && selected[index];
        let on: Mask = self.on.iter().enumerate().map(keep).collect();
        for (index, present) in self.present.iter_mut().enumerate() {
            *present &= on[index] || !self.on[index];
        }
        self.on = on;
        self
    }

    fn with(mut self, work: Work<'a>) -> Self {
        self.ops.push(Op { on: Arc::clone(&self.on), work });
        self
    }

    /// An error unless each state tensor matches its update.
    fn check(&self, state: &[&'a mut Leaves]) -> Result<()> {
        for state in state {
            self.incoming.check_aligned(state, "the state")?;
            for (index, leaf) in self.incoming.iter().enumerate().filter(|(index, _)| self.has(*index)) {
                let param = self.params.get(index).filter(|_| self.is_summed);
                let expected = param.map(Tensor::shape).or_else(|| leaf.shape());
                let found = state.get(index).map(|state| state.dims());
                if found == expected.map(|shape| shape.dims()) {
                    continue;
                }
                return Err(match found {
                    None => Error::new(
                        ErrorKind::FilteredOut,
                        "the state has no leaf for a parameter that has a gradient",
                    )
                    .remedy("`init` with the model that is trained, and update with the whole state"),
                    Some(found) => {
                        Error::shape("the state of a parameter differs in shape from its gradient")
                            .expected(format!("{:?}", expected.map(|shape| shape.dims()).unwrap_or_default()))
                            .found(format!("{found:?}"))
                            .remedy("`init` with the model that is trained")
                    }
                }
                .at(leaf.segments()));
            }
        }
        Ok(())
    }
}

fn each<R: Rule<K>, const K: usize>(count: usize, mut rule: impl FnMut(usize) -> R) -> Rules {
    Rules::Each((0..count).map(|index| Box::new(RuleImpl(rule(index))) as _).collect())
}

impl fmt::Debug for Updates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates")
            .field("incoming", &self.incoming)
            .field("operations", &self.ops.len())
            .finish()
    }
}
