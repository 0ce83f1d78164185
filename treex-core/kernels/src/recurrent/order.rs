//! Where the steps of each sequence are in memory.

use crate::error::{Error, Result};
use crate::memory::{collected, product};

/// The order in which sequences are read and written. A row is the features of one step of one sequence.
#[derive(Clone, Debug)]
pub struct Order {
    /// Steps of the longest sequence.
    pub time: usize,
    /// Sequences.
    pub items: usize,
    /// Whether time is the first dimension, or the last before the features.
    pub time_major: bool,
    /// Whether to go from the last step to the first.
    pub reverse: bool,
    /// Whether outputs of a reversed sequence are in the order of the inputs.
    pub keep_order: bool,
    /// Steps of each sequence, at most `time`; default: `time` each.
    pub lengths: Option<Vec<usize>>,
}

impl Order {
    /// Checks the lengths, without which two steps could be in one row.
    pub(super) fn check(&self) -> Result<()> {
        let Some(lengths) = &self.lengths else { return Ok(()) };
        if lengths.len() == self.items && lengths.iter().all(|length| *length <= self.time) {
            return Ok(());
        }
        let expected = format!("{} lengths of at most {}", self.items, self.time);
        Err(Error::shape("lengths do not fit their sequences", expected, format!("{lengths:?}")))
    }

    /// Steps of a sequence.
    #[inline(always)]
    pub(super) fn length(&self, item: usize) -> usize {
        self.lengths.as_ref().map_or(self.time, |lengths| lengths[item])
    }

    /// The row of a step in memory.
    #[inline(always)]
    fn row(&self, item: usize, at: usize) -> usize {
        if self.time_major { at * self.items + item } else { item * self.time + at }
    }

    /// The step at the other end of a sequence; padding stays behind the sequence.
    #[inline(always)]
    fn mirrored(&self, item: usize, step: usize) -> usize {
        (self.time - 1 - step + self.length(item)) % self.time
    }

    /// For each row, the row at the other end of its sequence.
    ///
    /// # Errors
    /// If the lengths do not fit the sequences, a row cannot be counted in 32 bits, or memory cannot be allocated.
    pub fn mirror(&self) -> Result<Vec<u32>> {
        self.check()?;
        let (items, time) = (self.items, self.time);
        let rows = product([items, time]).filter(|rows| u32::try_from(rows.saturating_sub(1)).is_ok());
        let Some(rows) = rows else {
            let found = format_args!("{items} sequences of {time} steps");
            return Err(Error::shape("an order has too many rows", "at most 2^32", found));
        };
        let row = |row: usize| match self.time_major {
            true => self.row(row % items, self.mirrored(row % items, row / items)),
            false => self.row(row / time, self.mirrored(row / time, row % time)),
        };
        collected(rows, (0..rows).map(|at| row(at) as u32))
    }

    /// The row that a step reads. Each row is read by one step.
    #[inline(always)]
    pub(super) fn input(&self, item: usize, step: usize) -> usize {
        self.row(item, if self.reverse { self.mirrored(item, step) } else { step })
    }

    /// The row that a step writes. Each row is written by one step.
    #[inline(always)]
    pub(super) fn output(&self, item: usize, step: usize) -> usize {
        self.row(item, if self.reverse && self.keep_order { self.mirrored(item, step) } else { step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_of_one_step() {
        for flags in 0..8 {
            let [time_major, reverse, keep_order] = [1, 2, 4].map(|flag| flags & flag != 0);
            for lengths in [None, Some(vec![2, 0, 5])] {
                let order = Order { time: 5, items: 3, time_major, reverse, keep_order, lengths };
                let steps = || (0..3).flat_map(|item| (0..5).map(move |step| (item, step)));
                let mut inputs: Vec<_> = steps().map(|(item, step)| order.input(item, step)).collect();
                let mut outputs: Vec<_> = steps().map(|(item, step)| order.output(item, step)).collect();
                inputs.sort_unstable();
                outputs.sort_unstable();
                assert!(inputs.iter().copied().eq(0..15) && outputs == inputs, "{order:?}");
                let mirror = order.mirror().unwrap();
                assert!(mirror.iter().zip(0..).all(|(row, at)| mirror[*row as usize] == at), "{order:?}");
            }
        }
    }

    /// Reversed within its length; the padding stays behind.
    #[test]
    fn padding_stays_at_the_end() {
        let lengths = Some(vec![3, 4]);
        let order = Order { time: 4, items: 2, time_major: false, reverse: true, keep_order: false, lengths };
        assert_eq!(order.mirror(), Ok(vec![2, 1, 0, 3, 7, 6, 5, 4]));
        assert_eq!([0, 1, 2, 3].map(|step| order.input(0, step)), [2, 1, 0, 3]);
        assert_eq!([0, 1, 2, 3].map(|step| order.output(0, step)), [0, 1, 2, 3]);
    }

    #[test]
    fn lengths_that_do_not_fit() {
        let order = |lengths| Order {
            time: 4,
            items: 2,
            time_major: false,
            reverse: true,
            keep_order: false,
            lengths: Some(lengths),
        };
        assert!(order(vec![0, 4]).check().is_ok());
        for lengths in [vec![1], vec![1, 2, 3], vec![1, 5]] {
            let order = order(lengths);
            assert!(order.check().is_err() && order.mirror().is_err());
        }
    }
}
