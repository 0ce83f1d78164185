//! Factors of the updates that are functions of sums over them.

use treex_kernels::expression::Expression;
use treex_kernels::number::{Lane, Number};

use super::erased::{ErasedRule, RuleImpl, Rules};
use super::rule::Times;
use super::sums::Sums;

/// A factor of all updates, or of those of a leaf: a function of `M` sums. Generic over the number, so that it is computed
/// where the sums are: on a device no step waits for them.
///
/// ```
/// use treex_optim::engine::{Factor, Number};
///
/// /// One over the root of the first sum.
/// struct Normalized;
///
/// impl Factor<1> for Normalized {
///     fn factor<N: Number>(&self, [squares]: [N; 1]) -> N {
///         N::constant(1.) / squares.sqrt()
///     }
/// }
/// ```
pub trait Factor<const M: usize>: Send + Sync + 'static {
    /// The factor, in `f64`.
    fn factor<N: Number>(&self, sums: [N; M]) -> N;
}

/// A type-erased [`Factor`].
pub(crate) trait ErasedFactor: Send + Sync {
    fn on_host(&self, sums: &[f64]) -> f64;
    /// Of the inputs 0, 1, ..
    fn traced(&self) -> Expression;
}

/// Implements [`ErasedFactor`] for a factor of `M` sums.
pub(crate) struct FactorImpl<F, const M: usize>(pub(crate) F);

impl<F: Factor<M>, const M: usize> ErasedFactor for FactorImpl<F, M> {
    fn on_host(&self, sums: &[f64]) -> f64 {
        self.0.factor(std::array::from_fn(|term| Lane(sums.get(term).copied().unwrap_or_default()))).0
    }

    fn traced(&self) -> Expression {
        self.0.factor(std::array::from_fn(Expression::input))
    }
}

/// One factor for all leaves, or one for each.
pub(crate) enum Factors {
    One(Box<dyn ErasedFactor>),
    Each(Vec<Box<dyn ErasedFactor>>),
}

impl Factors {
    /// The rules that multiply by them.
    pub(crate) fn on_host(&self, sums: &Sums) -> Rules {
        match self {
            Self::One(factor) => {
                let totals: Vec<_> = (0..sums.width).map(|term| sums.total(term)).collect();
                Rules::One(Box::new(RuleImpl(Times(factor.on_host(&totals)))))
            }
            Self::Each(factors) => {
                let mut rules: Vec<Box<dyn ErasedRule>> = Vec::with_capacity(factors.len());
                for (index, factor) in factors.iter().enumerate() {
                    let sums: Vec<_> = (0..sums.width).map(|term| sums.leaf(index, term)).collect();
                    rules.push(Box::new(RuleImpl(Times(factor.on_host(&sums)))));
                }
                Rules::Each(rules)
            }
        }
    }
}
