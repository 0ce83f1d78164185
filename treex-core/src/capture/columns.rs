//! The columns of a recording: words that are others at each step, each at an address of its own.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The most words of a row.
pub(super) const MOST_WORDS: usize = 1 << 14;

/// A word that is another one in each step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Column {
    /// The key of this number.
    Key(usize),
    /// That of this and later calls of an optimizer, whose number comes first.
    Ahead(usize, Arc<[u64]>),
}

/// The columns from one address on.
#[derive(Debug)]
pub(super) struct Columns {
    first: u64,
    columns: Vec<Column>,
    numbers: HashMap<Column, usize>,
}

impl Columns {
    pub(super) fn new(first: u64) -> Self {
        Self { first, columns: Vec::new(), numbers: HashMap::new() }
    }

    /// The address of a column, which is a new one unless it is known.
    pub(super) fn address(&mut self, column: Column) -> u64 {
        let next = self.columns.len();
        let number = *self.numbers.entry(column.clone()).or_insert(next);
        if number == next {
            self.columns.push(column);
        }
        self.first + 8 * number as u64
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter()
    }

    /// An error unless all columns have memory.
    pub(super) fn check(&self) -> Result<()> {
        if self.columns.len() <= MOST_WORDS {
            return Ok(());
        }
        Err(Error::argument("a captured step takes more numbers from the host than there is room for")
            .expected(format!("at most {MOST_WORDS}"))
            .found(self.columns.len())
            .remedy("give fewer leaves rules of their own, or run the step without `capture`"))
    }
}
