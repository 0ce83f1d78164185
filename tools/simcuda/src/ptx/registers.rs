//! The registers of a warp: a slot holds one value for each of its 32 lanes.

use std::ops::Index;

use super::types::Word;

/// One value for each lane of a warp.
pub(crate) type Lanes = [u64; 32];

/// The number of a register of a warp. Constants and special registers have slots too, so that an operand is always one.
pub(crate) type Slot = usize;

/// All lanes.
pub(crate) const ALL: u32 = u32::MAX;

/// What a register holds before anything was written to it.
const UNWRITTEN: Lanes = [u64::MAX; 32];

/// The registers of a warp.
#[derive(Debug)]
pub(crate) struct Registers(Vec<Lanes>);

impl Registers {
    pub(crate) fn new(count: usize) -> Self {
        Self(vec![UNWRITTEN; count])
    }

    /// Writes `f` of a lane to each lane of `mask`.
    #[inline(always)]
    pub(crate) fn each(&mut self, d: Slot, mask: u32, mut f: impl FnMut(usize) -> u64) {
        let d = &mut self.0[d];
        if mask == ALL {
            for (lane, value) in d.iter_mut().enumerate() {
                *value = f(lane);
            }
        } else {
            for lane in lanes(mask) {
                d[lane] = f(lane);
            }
        }
    }

    pub(crate) fn set(&mut self, d: Slot, lane: usize, value: u64) {
        self.0[d][lane] = value;
    }

    pub(crate) fn fill(&mut self, d: Slot, value: u64) {
        self.0[d] = [value; 32];
    }

    /// The lanes of `mask` whose predicate is as wanted.
    #[inline(always)]
    pub(crate) fn guarded(&self, mask: u32, predicate: Slot, negated: bool) -> u32 {
        let bits =
            self.0[predicate].iter().enumerate().fold(0, |bits, (lane, &p)| bits | ((p & 1) as u32) << lane);
        mask & if negated { !bits } else { bits }
    }
}

impl Index<Slot> for Registers {
    type Output = Lanes;

    #[inline(always)]
    fn index(&self, slot: Slot) -> &Lanes {
        &self.0[slot]
    }
}

/// The lanes of a mask, from the lowest.
#[inline(always)]
pub(crate) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let lane = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(lane)
    })
}

/// What an instruction does to the registers of a warp, in the lanes of a mask.
pub(crate) type Compute = Box<dyn Fn(&mut Registers, u32) + Send + Sync>;

/// `d = f(a)` in each lane.
pub(crate) fn unary<A: Word, R: Word>(
    d: Slot,
    a: Slot,
    f: impl Fn(A) -> R + Send + Sync + 'static,
) -> Compute {
    Box::new(move |registers, mask| {
        let a = registers[a];
        registers.each(d, mask, |i| f(A::read(a[i])).write());
    })
}

/// `d = f(a, b)` in each lane.
pub(crate) fn binary<A: Word, B: Word, R: Word>(
    d: Slot,
    [a, b]: [Slot; 2],
    f: impl Fn(A, B) -> R + Send + Sync + 'static,
) -> Compute {
    Box::new(move |registers, mask| {
        let (a, b) = (registers[a], registers[b]);
        registers.each(d, mask, |i| f(A::read(a[i]), B::read(b[i])).write());
    })
}

/// `d = f(a, b, c)` in each lane.
pub(crate) fn ternary<A: Word, B: Word, C: Word, R: Word>(
    d: Slot,
    [a, b, c]: [Slot; 3],
    f: impl Fn(A, B, C) -> R + Send + Sync + 'static,
) -> Compute {
    Box::new(move |registers, mask| {
        let (a, b, c) = (registers[a], registers[b], registers[c]);
        registers.each(d, mask, |i| f(A::read(a[i]), B::read(b[i]), C::read(c[i])).write());
    })
}
