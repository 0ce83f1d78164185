//! Any of the cells, to choose one where the program runs.

use super::cell::{Cell, Counts};
use super::gru::Gru;
use super::lstm::Lstm;
use super::mgu::{Mgu, MguWithoutReset};
use super::simple::Simple;

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
