//! The mathematics of one element.

use treex_kernels::number::Number;

/// One step of one element: a function of its update `u`, its parameter `p`, and its `K` state values. The
/// fields of a rule are the constants of the step: decay rates, bias corrections, learning rates.
///
/// ```
/// use treex_optim::engine::{Number, Rule};
///
/// /// Momentum: `trace = u + decay * trace`, which is the update.
/// #[derive(Clone)]
/// struct Momentum {
///     decay: f64,
/// }
///
/// impl Rule<1> for Momentum {
///     #[inline(always)]
///     fn apply<N: Number>(&self, u: N, _p: N, [trace]: [N; 1]) -> (N, [N; 1]) {
///         let trace = u + trace * self.decay;
///         (trace.clone(), [trace])
///     }
/// }
/// ```
pub trait Rule<const K: usize>: Send + Sync + 'static {
    /// The next update and state of one element. `#[inline(always)]`, so that the loop around it is
    /// vectorized.
    fn apply<N: Number>(&self, u: N, p: N, state: [N; K]) -> (N, [N; K]);
}

/// `u = factor * g`.
pub(crate) struct Times(pub(crate) f64);

impl Rule<0> for Times {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
        (g * self.0, [])
    }
}

/// `M` sums over the elements of each leaf.
pub trait Terms<const M: usize>: Send + Sync + 'static {
    /// The terms of one element. `#[inline(always)]`, as [`Rule::apply`].
    fn terms<N: Number>(&self, u: N, p: N) -> [N; M];
}

/// The squares of the updates, for norms.
#[derive(Clone, Copy, Debug)]
pub struct Squares;

impl Terms<1> for Squares {
    #[inline(always)]
    fn terms<N: Number>(&self, u: N, _: N) -> [N; 1] {
        [u.sqr()]
    }
}
