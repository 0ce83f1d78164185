//! Where the steps of each sequence are in memory.

/// The order in which a recurrent layer goes through its sequences.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// How many steps there are.
    pub(crate) time: usize,
    /// How many sequences there are.
    pub(crate) items: usize,
    /// Whether time is the first dimension, or the last before the features.
    pub(crate) time_major: bool,
    /// Whether to go from the last step to the first.
    pub(crate) reverse: bool,
    /// Whether outputs of a reversed sequence are in the order of the inputs.
    pub(crate) keep_order: bool,
    /// How many steps each sequence has, if not all.
    pub(crate) lengths: Option<Vec<usize>>,
}

impl Order {
    /// How many steps a sequence has.
    #[inline(always)]
    pub(crate) fn length(&self, item: usize) -> usize {
        self.lengths.as_ref().map_or(self.time, |lengths| lengths[item])
    }

    /// The row of a step in memory.
    #[inline(always)]
    fn row(&self, item: usize, at: usize) -> usize {
        if self.time_major { at * self.items + item } else { item * self.time + at }
    }

    /// The other end of a sequence: padding stays behind it.
    #[inline(always)]
    fn mirrored(&self, item: usize, step: usize) -> usize {
        (self.time - 1 - step + self.length(item)) % self.time
    }

    /// For each row, the one at the other end.
    pub(crate) fn mirror(&self) -> Vec<u32> {
        let (items, time) = (self.items, self.time);
        let row = |row: usize| match self.time_major {
            true => self.row(row % items, self.mirrored(row % items, row / items)),
            false => self.row(row / time, self.mirrored(row / time, row % time)),
        };
        (0..items * time).map(|at| row(at) as u32).collect()
    }

    /// The row that a step reads. Each row is that of one step.
    #[inline(always)]
    pub(crate) fn input(&self, item: usize, step: usize) -> usize {
        self.row(item, if self.reverse { self.mirrored(item, step) } else { step })
    }

    /// The row that a step writes. Each row is that of one step.
    #[inline(always)]
    pub(crate) fn output(&self, item: usize, step: usize) -> usize {
        self.row(item, if self.reverse && self.keep_order { self.mirrored(item, step) } else { step })
    }
}
