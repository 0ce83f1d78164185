//! Any of the cells, to choose one where the program runs.

use std::array::from_fn;

use super::cell::{Cell, Counts};
use super::gru::Gru;
use super::lstm::Lstm;
use super::mgu::{Mgu, MguWithoutReset};
use super::simple::Simple;
use crate::expression::Expression;

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

    /// How many gates and tensors of the carry it has.
    #[must_use]
    pub fn counts(self) -> Counts {
        fn counts<C: Cell<G, S>, const G: usize, const S: usize>(_: C) -> Counts {
            Counts { gates: G, states: S, of_input: G - C::FROM_INPUT, of_carry: C::FROM_CARRY }
        }
        match_cell!(self, cell => counts(cell))
    }

    /// The gates and then the carry after a step, traced: the inputs are the pre-activations and then the carry before.
    #[must_use]
    pub fn traced(self) -> Vec<Expression> {
        fn traced<C: Cell<G, S>, const G: usize, const S: usize>(cell: C) -> Vec<Expression> {
            let (gates, carry) =
                cell.forward(from_fn(Expression::input), from_fn(|state| Expression::input(G + state)));
            gates.into_iter().chain(carry).collect()
        }
        match_cell!(self, cell => traced(cell))
    }

    /// The gradients of the pre-activations and then of the carry before a step, traced: the inputs are the gates, the carry before,
    /// and then the gradient of the carry after it.
    #[must_use]
    pub fn traced_gradient(self) -> Vec<Expression> {
        fn traced<C: Cell<G, S>, const G: usize, const S: usize>(cell: C) -> Vec<Expression> {
            let inputs = |first: usize| from_fn(|at| Expression::input(first + at));
            let (gates, carry) = cell.backward(from_fn(Expression::input), inputs(G), inputs(G + S));
            gates.into_iter().chain(carry).collect()
        }
        match_cell!(self, cell => traced(cell))
    }
}
