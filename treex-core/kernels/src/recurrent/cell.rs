//! The cells: what one computes for each feature.

use crate::number::Number;

/// A cell with `G` gates and `S` tensors in its carry, for one feature; every method is `#[inline(always)]`.
///
/// The pre-activation of a gate is the sum of a bias, a product with the input, and a product with the last tensor of
/// the carry, which is also the output. The first gates may lack the product with the input, and the last ones the
/// product with the carry.
pub trait Cell<const G: usize, const S: usize>: Copy + Send + Sync + 'static {
    /// The cell's name in errors.
    const NAME: &'static str;
    /// The gates from this one on have a product with the input.
    const FROM_INPUT: usize = 0;
    /// The gates before this one have a product with the carry.
    const FROM_CARRY: usize = G;

    /// The gates as [`backward`](Self::backward) needs them, and the carry after the step, from the pre-activations and
    /// the carry before the step.
    fn forward<N: Number>(self, gates: [N; G], carry: [N; S]) -> ([N; G], [N; S]);

    /// The gradients of the pre-activations, and of the carry before the step, except for its part through the
    /// pre-activations; from the gates that [`forward`](Self::forward) returned, the carry before the step, and the
    /// gradient of the carry after it.
    fn backward<N: Number>(self, gates: [N; G], carry: [N; S], dcarry: [N; S]) -> ([N; G], [N; S]);
}

/// The derivative of the sigmoid, from its value.
#[inline(always)]
pub(super) fn of_sigmoid<N: Number>(y: N) -> N {
    y.clone() * (N::constant(1.) - y)
}

/// The derivative of the hyperbolic tangent, from its value.
#[inline(always)]
pub(super) fn of_tanh<N: Number>(y: N) -> N {
    N::constant(1.) - y.clone() * y
}

/// Counts that a run of a cell must match.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// All gates.
    pub gates: usize,
    /// Tensors of the carry.
    pub states: usize,
    /// Gates with a product with the input: the last ones.
    pub of_input: usize,
    /// Gates with a product with the carry: the first ones.
    pub of_carry: usize,
}
