//! The cells: what one computes for each feature.

use crate::math::Real;

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
    fn forward<R: Real>(self, gates: [R; G], carry: [R; S]) -> ([R; G], [R; S]);

    /// The gradients of the pre-activations, and of the carry before the step, except for its part through the
    /// pre-activations; from the gates that [`forward`](Self::forward) returned, the carry before the step, and the
    /// gradient of the carry after it.
    fn backward<R: Real>(self, gates: [R; G], carry: [R; S], dcarry: [R; S]) -> ([R; G], [R; S]);
}

/// Counts that a run of a cell must match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) gates: usize,
    /// Tensors of the carry.
    pub(super) states: usize,
    /// Gates with a product with the input.
    pub(super) of_input: usize,
    /// Gates with a product with the carry.
    pub(super) of_carry: usize,
}
