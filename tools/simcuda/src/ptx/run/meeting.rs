//! Lanes that wait for each other: shuffles, votes and the barrier of a warp.
//!
//! The manual lets lanes that exited be left out, and calls what is read from them undefined. Here a lane that is named and
//! has exited is waited for in vain, which is a fault: a kernel that names it is about to read from it. Lanes beyond the
//! threads of the block never were, and are not waited for.

use super::warp::{Stop, Warp};
use crate::fault::{Fault, FaultKind};
use crate::ptx::program::{Op, Program};
use crate::ptx::registers::{Compute, Slot, lanes};

impl Warp {
    /// Lanes come to an instruction for which all lanes that it names must come. Whether they are all: otherwise they wait,
    /// and the last to come sends those on that are complete.
    pub(super) fn come(
        &mut self,
        program: &Program,
        place: u32,
        active: u32,
        members: Slot,
        act: Option<&Compute>,
    ) -> Result<bool, Stop> {
        for lane in lanes(active) {
            let named = self.registers[members][lane] as u32;
            if named >> lane & 1 == 0 {
                let message = format!("lane {lane} is not among the lanes {named:#010x} that it names");
                return Err(Stop::new(lane, Fault::new(FaultKind::Deadlock, message)));
            }
            self.named[lane] = named;
        }
        if lanes(active).all(|lane| self.named[lane] & self.present == active) {
            self.meet(active, act);
            return Ok(true);
        }
        self.meeting |= active;
        self.send(active, place);
        let mut left = active;
        while left != 0 {
            let first = left.trailing_zeros() as usize;
            let come = self.with(program, first);
            left &= !come;
            if come == self.named[first] & self.present {
                self.meet(come, act);
                self.meeting &= !come;
                for lane in lanes(come) {
                    self.places[lane] += 1;
                }
            }
        }
        Ok(false)
    }

    fn meet(&mut self, come: u32, act: Option<&Compute>) {
        if let Some(act) = act {
            act(&mut self.registers, come);
        }
        self.order.meet(come, self.present);
    }

    /// The lanes that wait in the same meeting as this one.
    pub(super) fn with(&self, program: &Program, first: usize) -> u32 {
        let only_waits =
            |lane: usize| matches!(program.steps[self.places[lane] as usize].op, Op::Rendezvous(_, None));
        let same = |lane: usize| {
            self.named[lane] == self.named[first]
                && (self.places[lane] == self.places[first] || only_waits(lane) && only_waits(first))
        };
        lanes(self.meeting).filter(|&lane| same(lane)).fold(0, |all, lane| all | 1 << lane)
    }
}
