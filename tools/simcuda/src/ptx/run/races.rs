//! Races between the threads of a block: who touched a byte last, and what came between.
//!
//! A barrier of the block ends a phase, and what lies in different phases is in order. Inside a phase, lanes of one warp are
//! in order by what they meet in (`bar.warp.sync`, `shfl.sync` and the like): each lane knows up to which of the warp's
//! meetings it has seen the others. Threads of different warps are never in order inside a phase. A barrier of a part of
//! the block counts as one of all, and fences order nothing: the first may hide a race, the second may report a protocol
//! of flags. Two writes of one value are a race as well.

use std::collections::HashMap;

use crate::fault::{Fault, FaultKind};
use crate::ptx::registers::lanes;

/// What a thread does to a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Touch {
    pub(super) writes: bool,
    pub(super) atomic: bool,
}

/// A lane, as far as the order of its accesses goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) warp: u16,
    pub(super) lane: usize,
    pub(super) order: &'a WarpOrder,
}

/// Which meetings the lanes of a warp have seen of each other.
#[derive(Clone, Debug)]
pub(super) struct WarpOrder {
    /// The number of the next meeting.
    next: u32,
    /// The last meeting of all lanes.
    all: u32,
    /// For each lane, and each other lane: the last meeting of that one that is known to it.
    known: Box<[[u32; 32]; 32]>,
}

impl Default for WarpOrder {
    fn default() -> Self {
        Self { next: 1, all: 0, known: Box::new([[0; 32]; 32]) }
    }
}

impl WarpOrder {
    /// The lanes of `mask` meet; `present` are all that the warp has.
    pub(super) fn meet(&mut self, mask: u32, present: u32) {
        if mask == present {
            self.all = self.next;
        } else {
            let mut joined = [0; 32];
            for lane in lanes(mask) {
                for (joined, known) in joined.iter_mut().zip(&self.known[lane]) {
                    *joined = (*joined).max(*known);
                }
            }
            for lane in lanes(mask) {
                joined[lane] = self.next;
            }
            for lane in lanes(mask) {
                self.known[lane] = joined;
            }
        }
        self.next += 1;
    }

    fn knows(&self, lane: usize, other: usize, meeting: u32) -> bool {
        lane == other || self.all >= meeting || self.known[lane][other] >= meeting
    }
}

/// Accesses to a byte that matter for later ones.
#[derive(Clone, Copy, Debug, Default)]
struct Access {
    phase: u32,
    /// The meeting of its warp that comes next.
    meeting: u32,
    lanes: u32,
    warp: u16,
    atomic: bool,
    /// Whether other warps did too.
    several: bool,
}

impl Access {
    fn before(self, who: Who<'_>, phase: u32) -> bool {
        self.phase != phase
            || !self.several
                && self.warp == who.warp
                && lanes(self.lanes).all(|lane| who.order.knows(who.lane, lane, self.meeting))
    }

    /// This access beside an earlier one, which is not before it.
    fn beside(self, earlier: Self) -> Self {
        Self {
            lanes: if self.warp == earlier.warp { self.lanes | earlier.lanes } else { earlier.lanes },
            meeting: self.meeting.max(earlier.meeting),
            warp: earlier.warp,
            several: earlier.several || self.warp != earlier.warp,
            atomic: earlier.atomic && self.atomic,
            ..self
        }
    }

    /// A thread of these that is another one.
    fn other_than(self, who: Who<'_>) -> u32 {
        let own = if self.warp == who.warp { 1 << who.lane } else { 0 };
        u32::from(self.warp) * 32 + (self.lanes & !own).trailing_zeros()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    write: Access,
    read: Access,
}

const PAGE: u64 = 1024;

/// Cells of 4 bytes each, until something smaller is touched.
#[derive(Debug)]
struct Page {
    by_byte: bool,
    cells: Vec<Cell>,
}

/// Who touched which byte in the phase that runs.
#[derive(Debug)]
pub(super) struct Races {
    phase: u32,
    numbers: HashMap<u64, usize>,
    pages: Vec<Page>,
    /// How many pages this block uses; those of earlier blocks are used again, since their phases are over.
    used: usize,
    last: (u64, usize),
}

impl Races {
    pub(super) fn new() -> Self {
        Self { phase: 1, numbers: HashMap::new(), pages: Vec::new(), used: 0, last: (u64::MAX, 0) }
    }

    /// A barrier of the block was passed.
    pub(super) fn next_phase(&mut self) {
        self.phase += 1;
    }

    /// A new block begins.
    pub(super) fn reset(&mut self) {
        self.next_phase();
        self.numbers.clear();
        self.used = 0;
        self.last = (u64::MAX, 0);
    }

    fn page(&mut self, address: u64) -> &mut Page {
        let key = address / PAGE;
        if self.last.0 != key {
            let number = *self.numbers.entry(key).or_insert(self.used);
            if number == self.used {
                self.used += 1;
                if number == self.pages.len() {
                    let cells = vec![Cell::default(); PAGE as usize / 4];
                    self.pages.push(Page { by_byte: false, cells });
                }
            }
            self.last = (key, number);
        }
        &mut self.pages[self.last.1]
    }

    /// Notes an access to an aligned place by its generic address.
    pub(super) fn note(&mut self, who: Who<'_>, address: u64, len: usize, touch: Touch) -> Result<(), Fault> {
        let phase = self.phase;
        let page = self.page(address);
        if !page.by_byte && len < 4 {
            page.by_byte = true;
            page.cells = page.cells.iter().flat_map(|&cell| [cell; 4]).collect();
        }
        let size = if page.by_byte { 1 } else { 4 };
        let first = (address % PAGE) as usize / size;
        for cell in &mut page.cells[first..first + len.div_ceil(size)] {
            let access = Access {
                phase,
                meeting: who.order.next,
                lanes: 1 << who.lane,
                warp: who.warp,
                atomic: touch.atomic,
                several: false,
            };
            cell.note(who, access, touch.writes).map_err(|(what, other)| {
                let now = match (touch.writes, touch.atomic) {
                    (true, true) => "updated",
                    (true, false) => "written",
                    _ => "read",
                };
                let message = format!(
                    "{len} bytes at {address:#x} are {now} by thread {} and were {what} by thread {other}, with no barrier \
                     between them",
                    usize::from(who.warp) * 32 + who.lane
                );
                Fault::new(FaultKind::Race, message)
            })?;
        }
        Ok(())
    }
}

impl Cell {
    fn note(&mut self, who: Who<'_>, access: Access, writes: bool) -> Result<(), (&'static str, u32)> {
        let phase = access.phase;
        let after_write = self.write.before(who, phase);
        if !(after_write || self.write.atomic && access.atomic) {
            return Err(("written", self.write.other_than(who)));
        }
        if !writes {
            let after = self.read.before(who, phase);
            self.read = if after { access } else { access.beside(self.read) };
            return Ok(());
        }
        if !(self.read.before(who, phase) || self.read.atomic && access.atomic) {
            return Err(("read", self.read.other_than(who)));
        }
        let plain_by_same =
            self.write.phase == phase && self.write.lanes == access.lanes && !self.write.atomic;
        if !after_write {
            self.write = access.beside(self.write);
        } else if !(access.atomic && plain_by_same) {
            // Another thread's atomic access would be in order with an atomic one, but not with the plain one before.
            self.write = access;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Touch = Touch { writes: false, atomic: false };
    const WRITE: Touch = Touch { writes: true, atomic: false };
    const UPDATE: Touch = Touch { writes: true, atomic: true };

    fn runs(accesses: &[(usize, u64, usize, Touch)]) -> bool {
        let (mut races, order) = (Races::new(), WarpOrder::default());
        accesses.iter().all(|&(thread, address, len, touch)| {
            let who = Who { warp: (thread / 32) as u16, lane: thread % 32, order: &order };
            races.note(who, address, len, touch).is_ok()
        })
    }

    #[test]
    fn a_write_and_another_access_is_a_race() {
        for (second, third) in [(1, 2), (40, 70)] {
            assert!(runs(&[(0, 64, 4, READ), (second, 64, 4, READ), (third, 64, 4, READ)]));
            assert!(!runs(&[(0, 64, 4, WRITE), (second, 64, 4, READ)]));
            assert!(!runs(&[(0, 64, 4, READ), (second, 64, 4, READ), (0, 64, 4, WRITE)]));
            assert!(!runs(&[(0, 64, 4, WRITE), (second, 64, 4, WRITE)]));
            assert!(runs(&[(0, 64, 4, UPDATE), (second, 64, 4, UPDATE), (third, 64, 4, UPDATE)]));
            assert!(!runs(&[(0, 64, 4, UPDATE), (second, 64, 4, READ)]));
            assert!(!runs(&[(0, 64, 4, WRITE), (0, 64, 4, UPDATE), (second, 64, 4, UPDATE)]));
            assert!(runs(&[(0, 64, 4, WRITE), (second, 68, 4, WRITE), (0, 64, 4, READ)]));
            assert!(runs(&[(0, 64, 1, WRITE), (second, 65, 1, WRITE), (third, 66, 2, WRITE)]));
            assert!(!runs(&[(0, 64, 4, WRITE), (second, 65, 1, WRITE)]));
            assert!(!runs(&[(0, 64, 16, WRITE), (second, 72, 4, READ)]));
        }
    }

    #[test]
    fn barriers_and_meetings_order() {
        let (mut races, mut order) = (Races::new(), WarpOrder::default());
        let note = |races: &mut Races, order: &WarpOrder, lane: usize, touch| {
            races.note(Who { warp: 0, lane, order }, 8, 4, touch).is_ok()
        };
        assert!(note(&mut races, &order, 0, WRITE));
        order.meet(0b11, u32::MAX);
        assert!(note(&mut races, &order, 1, READ) && !note(&mut races, &order, 2, READ));
        order.meet(0b110, u32::MAX);
        assert!(note(&mut races, &order, 2, WRITE), "through lane 1");
        assert!(!note(&mut races, &order, 0, READ));
        order.meet(u32::MAX, u32::MAX);
        assert!(note(&mut races, &order, 0, READ) && !note(&mut races, &order, 5, WRITE));
        races.next_phase();
        assert!(note(&mut races, &order, 5, WRITE));
        races.reset();
        assert!(note(&mut races, &order, 6, WRITE));
    }
}
