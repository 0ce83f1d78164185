//! Type-erased rules and terms: one loop each, instantiated where the rule's type is known.

use std::iter;

use candle_core::Tensor;
use treex_core::Result;
use treex_core::tensor_number::TensorNumber;
use treex_kernels::expression::Expression;
use treex_kernels::isa::{dispatch, dispatch_256};
use treex_kernels::number::Number;

use super::fusion::Fusable;
use super::loops::{Chunk, Sum, apply};
use super::rule::{Rule, Terms};

/// A type-erased [`Rule`].
pub(crate) trait ErasedRule: Send + Sync {
    /// The number of tensors of state.
    fn width(&self) -> usize;
    /// The fusable form of this rule, if it has one.
    fn fusable(&self) -> Option<Fusable>;
    fn run_f32(&self, chunk: Chunk<'_, '_, f32>);
    fn run_f64(&self, chunk: Chunk<'_, '_, f64>);
    /// The expressions of the next update and the next state.
    fn traced(&self, u: Expression, p: Expression, state: &[Expression]) -> Vec<Expression>;
    /// The factor of [`TimesScalar`], in whose place nothing is traced.
    fn scalar(&self) -> Option<&Tensor> {
        None
    }
    /// The same as tensor operations: the update, then the state.
    fn reference(&self, u: &Tensor, p: &Tensor, state: &[Tensor]) -> Result<Vec<Tensor>>;
}

/// Implements [`ErasedRule`] for a rule with `K` state tensors.
pub(crate) struct RuleImpl<R, const K: usize>(pub(crate) R);

impl<R: Rule<K>, const K: usize> RuleImpl<R, K> {
    /// The next update and the next state, from those now.
    fn apply<N: Number>(&self, u: N, p: N, state: &[N]) -> Vec<N> {
        let (next, state) = self.0.apply(u, p, std::array::from_fn(|k| state[k].clone()));
        iter::once(next).chain(state).collect()
    }
}

impl<R: Rule<K>, const K: usize> ErasedRule for RuleImpl<R, K> {
    fn width(&self) -> usize {
        K
    }

    fn fusable(&self) -> Option<Fusable> {
        if K > 0 {
            return None;
        }
        Fusable::of(&self.apply(Expression::input(0), Expression::input(1), &[])[0])
    }

    fn run_f32(&self, chunk: Chunk<'_, '_, f32>) {
        apply(&self.0, chunk, |blocks| dispatch(blocks));
    }

    fn run_f64(&self, chunk: Chunk<'_, '_, f64>) {
        apply(&self.0, chunk, |blocks| dispatch_256(blocks));
    }

    fn traced(&self, u: Expression, p: Expression, state: &[Expression]) -> Vec<Expression> {
        self.apply(u, p, state)
    }

    fn reference(&self, u: &Tensor, p: &Tensor, state: &[Tensor]) -> Result<Vec<Tensor>> {
        let state: Vec<_> = state.iter().map(TensorNumber::new).collect();
        let next = self.apply(TensorNumber::new(u), TensorNumber::new(p), &state);
        next.into_iter().map(|number| number.into_tensor(u)).collect()
    }
}

/// `u = factor * g`, with a factor in `F64` that is known to the device alone.
pub(crate) struct TimesScalar(pub(crate) Tensor);

impl ErasedRule for TimesScalar {
    fn width(&self) -> usize {
        0
    }

    fn fusable(&self) -> Option<Fusable> {
        None
    }

    /// The loops of the CPU have no such factor: what they would compute shows.
    fn run_f32(&self, chunk: Chunk<'_, '_, f32>) {
        chunk.to.fill(f32::NAN);
    }

    fn run_f64(&self, chunk: Chunk<'_, '_, f64>) {
        chunk.to.fill(f64::NAN);
    }

    fn traced(&self, u: Expression, _: Expression, _: &[Expression]) -> Vec<Expression> {
        vec![u * Expression::scalar(0)]
    }

    fn scalar(&self) -> Option<&Tensor> {
        Some(&self.0)
    }

    fn reference(&self, u: &Tensor, _: &Tensor, _: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![u.broadcast_mul(&self.0.reshape(())?.to_dtype(u.dtype())?)?])
    }
}

/// One rule for all leaves, or one for each.
pub(crate) enum Rules {
    One(Box<dyn ErasedRule>),
    Each(Vec<Box<dyn ErasedRule>>),
}

impl Rules {
    pub(crate) fn at(&self, index: usize) -> &dyn ErasedRule {
        match self {
            Self::One(rule) => &**rule,
            Self::Each(rules) => &*rules[index],
        }
    }
}

/// Type-erased [`Terms`].
pub(crate) trait ErasedTerms: Send + Sync {
    /// The number of sums.
    fn width(&self) -> usize;
    /// Adds the sums over a chunk to `sums`.
    fn sum_f32(&self, u: &[f32], p: &[f32], sums: &mut [f64]);
    fn sum_f64(&self, u: &[f64], p: &[f64], sums: &mut [f64]);
    /// The terms of the inputs 0 and 1, update and parameter.
    fn traced(&self) -> Vec<Expression>;
    /// The terms as tensors.
    fn reference(&self, u: &Tensor, p: &Tensor) -> Result<Vec<Tensor>>;
}

/// Implements [`ErasedTerms`] for `M` terms.
pub(crate) struct TermsImpl<S, const M: usize>(pub(crate) S);

impl<S: Terms<M>, const M: usize> ErasedTerms for TermsImpl<S, M> {
    fn width(&self) -> usize {
        M
    }

    fn sum_f32(&self, u: &[f32], p: &[f32], sums: &mut [f64]) {
        add(sums, dispatch(Sum::<_, _, M> { terms: &self.0, u, p }));
    }

    fn sum_f64(&self, u: &[f64], p: &[f64], sums: &mut [f64]) {
        add(sums, dispatch_256(Sum::<_, _, M> { terms: &self.0, u, p }));
    }

    fn traced(&self) -> Vec<Expression> {
        self.0.terms(Expression::input(0), Expression::input(1)).into()
    }

    fn reference(&self, u: &Tensor, p: &Tensor) -> Result<Vec<Tensor>> {
        let terms = self.0.terms(TensorNumber::new(u), TensorNumber::new(p));
        terms.into_iter().map(|number| number.into_tensor(u)).collect()
    }
}

fn add(sums: &mut [f64], more: impl IntoIterator<Item = f64>) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
