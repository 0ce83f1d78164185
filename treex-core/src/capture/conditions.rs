//! The conditions of a recording: what the device counts, and which leaves on the host change under which.

use std::collections::{HashMap, HashSet};

use candle_core::{DType, Device, Tensor};

#[cfg(feature = "cuda")]
use crate::device::address;
use crate::device::decide::{COUNTS, NUMBERS};
use crate::error::{Error, Result};
#[cfg(feature = "cuda")]
use crate::transfers::transfer;
use crate::tree::handle::Handle;

/// The most conditions of a step.
pub(super) const MOST_CONDITIONS: usize = 8;

/// Counts and numbers of all conditions, on the device.
#[derive(Clone, Debug)]
pub(super) struct ConditionMemory {
    /// [`COUNTS`] words each.
    pub(super) counts: Tensor,
    /// [`NUMBERS`] each.
    pub(super) numbers: Tensor,
}

impl ConditionMemory {
    pub(super) fn new(device: &Device) -> Result<Self> {
        Ok(Self {
            counts: Tensor::zeros(MOST_CONDITIONS * COUNTS, DType::I64, device)?,
            numbers: Tensor::zeros(MOST_CONDITIONS * NUMBERS, DType::F64, device)?,
        })
    }

    fn of(&self, condition: usize) -> Result<[Tensor; 2]> {
        let part = |x: &Tensor, size| x.narrow(0, (condition - 1) * size, size);
        Ok([part(&self.counts, COUNTS)?, part(&self.numbers, NUMBERS)?])
    }
}

impl ConditionMemory {
    /// Writes what is counted at first, and where the words of all steps are: those of each condition, behind those of every step.
    #[cfg(feature = "cuda")]
    pub(super) fn start(
        &self,
        first: &[(Count, f64)],
        rows: &[Vec<Vec<u64>>],
        words: &[Option<Tensor>],
    ) -> Result<()> {
        let mut counts = vec![0i64; MOST_CONDITIONS * COUNTS];
        let mut numbers = vec![0f64; MOST_CONDITIONS * NUMBERS];
        for (count, value) in first {
            match *count {
                Count::Word(at) => counts[at] = *value as i64,
                Count::Number(at) => numbers[at] = *value,
            }
        }
        for (condition, (rows, words)) in rows.iter().zip(words).enumerate().skip(1) {
            let counts = &mut counts[(condition - 1) * COUNTS..][..COUNTS];
            if let (Some(words), Some(row)) = (words, rows.first()) {
                counts[3..].copy_from_slice(&[address(words)?.cast_signed(), row.len() as i64]);
            }
        }
        let device = self.counts.device();
        let to_device = |x: &Tensor| transfer(x, device, "run the step outside");
        self.counts.slice_set(&to_device(&Tensor::new(counts, &Device::Cpu)?)?, 0, 0)?;
        Ok(self.numbers.slice_set(&to_device(&Tensor::new(numbers, &Device::Cpu)?)?, 0, 0)?)
    }

    /// What the device has counted.
    #[cfg(feature = "cuda")]
    pub(super) fn counted(&self) -> Result<Counted> {
        let on_host = |x: &Tensor| transfer(x, &Device::Cpu, "give the step back outside");
        Ok(Counted { counts: on_host(&self.counts)?.to_vec1()?, numbers: on_host(&self.numbers)?.to_vec1()? })
    }
}

/// What a device has counted.
#[cfg(feature = "cuda")]
pub(super) struct Counted {
    counts: Vec<i64>,
    numbers: Vec<f64>,
}

#[cfg(feature = "cuda")]
impl Counted {
    /// How many steps a condition let through.
    pub(super) fn made(&self, condition: usize) -> usize {
        usize::try_from(self.counts[(condition - 1) * COUNTS + 2]).unwrap_or(0)
    }

    /// The value of a leaf.
    pub(super) fn tensor(&self, count: Count) -> Result<Tensor> {
        Ok(match count {
            Count::Word(at) => Tensor::new(self.counts[at], &Device::Cpu)?,
            Count::Number(at) => Tensor::new(self.numbers[at], &Device::Cpu)?,
        })
    }
}

/// A number that the device counts, in the place of a leaf on the host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Count {
    /// A word of the counts.
    Word(usize),
    /// One of the numbers.
    Number(usize),
}

/// The conditions of a step, from 1 on.
#[derive(Debug)]
pub(super) struct Conditions {
    memory: ConditionMemory,
    /// What the leaves on the host hold at first.
    pub(super) first: Vec<(Count, f64)>,
    recorded: usize,
    looked: usize,
    now: usize,
    /// By cell, the leaves that the device counts, and the conditions under which others change; and the leaves themselves, so that
    /// their cells are those of no others.
    counts: HashMap<usize, Count>,
    under: HashMap<usize, usize>,
    scales: HashMap<usize, usize>,
    decided: HashSet<usize>,
    leaves: Vec<Handle>,
}

impl Conditions {
    pub(super) fn new(memory: ConditionMemory) -> Self {
        Self {
            memory,
            first: Vec::new(),
            recorded: 0,
            looked: 0,
            now: 0,
            counts: HashMap::new(),
            under: HashMap::new(),
            scales: HashMap::new(),
            decided: HashSet::new(),
            leaves: Vec::new(),
        }
    }

    /// The condition that holds for what is recorded now, 0 for none.
    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// From here on an optimizer looks ahead, at one step.
    pub(super) fn look_ahead(&mut self) {
        self.looked = self.recorded;
    }

    /// What the device counts in the place of a leaf.
    pub(super) fn count(&self, cell: usize) -> Option<Count> {
        self.counts.get(&cell).copied()
    }

    /// The condition under which a leaf changes.
    pub(super) fn of(&self, cell: usize) -> Option<usize> {
        self.under.get(&cell).copied()
    }

    /// The next condition, whose leaves on the host these are, in the order of their counts; that of a scale comes last.
    pub(super) fn next(&mut self, leaves: &[&Handle], has_scale: bool) -> Result<usize> {
        self.recorded += 1;
        let condition = self.recorded;
        if condition > MOST_CONDITIONS {
            return Err(Error::argument("a captured step has more conditions than there is room for")
                .expected(format!("at most {MOST_CONDITIONS}"))
                .remedy("put fewer optimizers with `apply_if_finite` or loss scales into one step"));
        }
        for (number, leaf) in leaves.iter().enumerate() {
            let count = match (number, has_scale) {
                (2, true) => Count::Number((condition - 1) * NUMBERS + 1),
                _ => Count::Word((condition - 1) * COUNTS + number),
            };
            let value = leaf.value().map(|value| value.to_dtype(DType::F64)?.to_scalar()).transpose()?;
            self.first.push((count, value.unwrap_or(0.)));
            self.counts.insert(leaf.cell(), count);
            self.leaves.push((*leaf).clone());
        }
        Ok(condition)
    }

    /// The condition of a scale, whose leaves these are.
    pub(super) fn of_scale(&mut self, leaves: &[&Handle]) -> Result<usize> {
        let cell = leaves.last().map_or(0, |leaf| leaf.cell());
        if let Some(condition) = self.scales.get(&cell) {
            return Ok(*condition);
        }
        let condition = self.next(leaves, true)?;
        self.scales.insert(cell, condition);
        Ok(condition)
    }

    /// Leaves change under the condition that was recorded last.
    pub(super) fn under_last(&mut self, leaves: &[&Handle]) {
        for leaf in leaves {
            self.under.insert(leaf.cell(), self.recorded);
            self.leaves.push((*leaf).clone());
        }
    }

    /// The next condition at which an optimizer looks ahead.
    pub(super) fn looked_at(&mut self) -> usize {
        self.looked += 1;
        self.looked
    }

    /// From here on this condition holds; 0 is none.
    pub(super) fn hold(&mut self, condition: usize) {
        self.now = condition;
    }

    /// An error if the condition was decided before, in this step.
    pub(super) fn decide(&mut self, condition: usize) -> Result<()> {
        if self.decided.insert(condition) {
            return Ok(());
        }
        Err(Error::argument("a loss scale makes two steps of optimizers in one captured step")
            .expected("one for each scale")
            .remedy("give each optimizer a `DynamicLossScale` of its own"))
    }

    /// Counts and numbers of a condition.
    pub(super) fn memory(&self, condition: usize) -> Result<[Tensor; 2]> {
        self.memory.of(condition)
    }
}
