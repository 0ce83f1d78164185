//! The cells: what one computes for each feature.

use super::{Gru, Lstm, Mgu, MguWithoutReset, Simple};
use crate::math::Real;

/// A cell with `G` gates and `S` tensors in its carry, for one feature; every method is `#[inline(always)]`.
///
/// The pre-activation of a gate is the sum of a bias, a product with the input, and a product with the last tensor of
/// the carry, which is also the output. The first gates may lack the product with the input, and the last ones the
/// product with the carry.
pub trait Cell<const G: usize, const S: usize>: Copy + Into<AnyCell> + Send + Sync + 'static {
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

/// Any of the cells.
#[derive(Clone, Copy, Debug)]
pub enum AnyCell {
    /// The long short-term memory.
    Lstm(Lstm),
    /// The gated recurrent unit.
    Gru(Gru),
    /// The minimal gated unit.
    Mgu(Mgu),
    /// The minimal gated unit without a reset gate.
    MguWithoutReset(MguWithoutReset),
    /// The simple recurrent cell.
    Simple(Simple),
}

/// Evaluates an expression with the cell that an [`AnyCell`] holds.
macro_rules! match_cell {
    ($any:expr, $cell:ident => $run:expr) => {
        match $any {
            AnyCell::Lstm($cell) => $run,
            AnyCell::Gru($cell) => $run,
            AnyCell::Mgu($cell) => $run,
            AnyCell::MguWithoutReset($cell) => $run,
            AnyCell::Simple($cell) => $run,
        }
    };
}
pub(super) use match_cell;

macro_rules! into_any {
    ($($cell:ident),*) => {$(
        impl From<$cell> for AnyCell {
            fn from(cell: $cell) -> Self {
                Self::$cell(cell)
            }
        }
    )*};
}

into_any!(Lstm, Gru, Mgu, MguWithoutReset, Simple);

impl AnyCell {
    /// The cell's name in errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        fn name<C: Cell<G, S>, const G: usize, const S: usize>(_: C) -> &'static str {
            C::NAME
        }
        match_cell!(self, cell => name(cell))
    }

    pub(super) fn counts(self) -> Counts {
        fn counts<C: Cell<G, S>, const G: usize, const S: usize>(_: C) -> Counts {
            Counts { gates: G, states: S, of_input: G - C::FROM_INPUT, of_carry: C::FROM_CARRY }
        }
        match_cell!(self, cell => counts(cell))
    }
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
