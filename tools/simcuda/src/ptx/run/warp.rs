//! A warp: 32 lanes, each with its own place in the program.
//!
//! Of the lanes that can go on, those at the lowest instruction go first, all that are there together. So lanes that went
//! different ways meet again where their ways do.

use super::access::Environment;
use super::print;
use super::races::WarpOrder;
use crate::fault::{Fault, FaultKind};
use crate::ptx::program::{BarrierKind, Call, Op, Program, Step, Transfer};
use crate::ptx::registers::{Registers, Slot, lanes};

/// Instructions after which another warp, or other lanes of this one, have their turn: one may wait for the other.
const TURN: u64 = 1 << 12;

/// Why a warp was stopped, and which lane it was.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) lane: usize,
    pub(super) fault: Fault,
}

impl Stop {
    pub(super) fn new(lane: usize, fault: Fault) -> Self {
        Self { lane, fault }
    }
}

/// What a step leaves to do.
enum Next {
    /// On with the instruction behind.
    Step,
    /// All lanes go to one place.
    Jump(u32),
    /// Each lane has its place.
    Scattered,
}

/// A warp.
#[derive(Debug)]
pub(super) struct Warp {
    pub(super) number: u16,
    pub(super) registers: Registers,
    /// Local memory, lane after lane.
    pub(super) local: Vec<u8>,
    pub(super) order: WarpOrder,
    /// The next instruction of each lane, or the one in which it waits.
    pub(super) places: [u32; 32],
    /// The lanes that the block has threads for.
    pub(super) present: u32,
    pub(super) exited: u32,
    /// Lanes that wait for other lanes of the warp.
    pub(super) meeting: u32,
    /// For which lanes each of them waits.
    pub(super) named: [u32; 32],
    /// Lanes that wait at a barrier of the block.
    pub(super) at_barrier: u32,
    /// Barriers that the warp came to without waiting, by number.
    pub(super) arrivals: Vec<u64>,
    instructions: u64,
    /// Lanes that let others go first in this turn.
    behind: u32,
}

impl Warp {
    pub(super) fn new(number: u16, present: u32, program: &Program) -> Self {
        Self {
            number,
            registers: Registers::new(program.slots),
            local: vec![0; 32 * program.local],
            order: WarpOrder::default(),
            places: [0; 32],
            present,
            exited: 0,
            meeting: 0,
            named: [0; 32],
            at_barrier: 0,
            arrivals: Vec::new(),
            instructions: 0,
            behind: 0,
        }
    }

    /// Before a new block.
    pub(super) fn reset(&mut self, program: &Program) {
        self.local.fill(crate::memory::POISON);
        self.places = [program.entry; 32];
        self.exited = 0;
        self.meeting = 0;
        self.at_barrier = 0;
        self.arrivals.clear();
        self.instructions = 0;
        self.behind = 0;
    }

    /// Lanes that did not exit.
    pub(super) fn live(&self) -> u32 {
        self.present & !self.exited
    }

    /// Lanes that can go on.
    pub(super) fn ready(&self) -> u32 {
        self.live() & !self.meeting & !self.at_barrier
    }

    /// Runs until no lane can go on, or until other warps have their turn.
    pub(super) fn run(
        &mut self,
        program: &Program,
        env: &mut Environment<'_>,
        budget: u64,
    ) -> Result<(), Stop> {
        let end = self.instructions + TURN;
        while self.ready() != 0 && self.instructions < end {
            if self.ready() & !self.behind == 0 {
                self.behind = 0;
            }
            let (place, mask, limit) = self.lowest(self.ready() & !self.behind);
            self.group(program, env, place, mask, limit, end)?;
            if self.instructions > budget {
                let message = format!("more than {budget} instructions in one warp");
                return Err(Stop::new(
                    mask.trailing_zeros() as usize,
                    Fault::new(FaultKind::TimeOut, message),
                ));
            }
        }
        if self.instructions >= end {
            // They may wait for what the others do: in every second turn they stay behind.
            self.behind = if self.behind == 0 { self.lowest(self.ready()).1 } else { 0 };
        }
        Ok(())
    }

    /// The lowest instruction of these lanes, the lanes there, and the next higher instruction of one of them.
    fn lowest(&self, among: u32) -> (u32, u32, u32) {
        let (mut place, mut mask, mut limit) = (u32::MAX, 0, u32::MAX);
        for lane in lanes(among) {
            let own = self.places[lane];
            if own < place {
                limit = place;
                place = own;
                mask = 1 << lane;
            } else if own == place {
                mask |= 1 << lane;
            } else {
                limit = limit.min(own);
            }
        }
        (place, mask, limit)
    }

    /// Runs lanes at one place until they part, wait, or come to others.
    fn group(
        &mut self,
        program: &Program,
        env: &mut Environment<'_>,
        mut place: u32,
        mask: u32,
        limit: u32,
        stop: u64,
    ) -> Result<(), Stop> {
        while place < limit && self.instructions < stop {
            let step = &program.steps[place as usize];
            self.instructions += 1;
            env.counts.warp_instructions += 1;
            let active = match step.guard {
                None => mask,
                Some((predicate, negated)) => self.registers.guarded(mask, predicate, negated),
            };
            env.counts.thread_instructions += u64::from(active.count_ones());
            if active == 0 {
                place += 1;
                continue;
            }
            let next = self.step(program, step, place, mask, active, env).inspect_err(|stop| {
                // Where it happened is read from here.
                self.places[stop.lane] = place;
            });
            match next? {
                Next::Step => place += 1,
                Next::Jump(target) => place = target,
                Next::Scattered => return Ok(()),
            }
        }
        self.send(mask, place);
        Ok(())
    }

    /// Sets the place of lanes.
    pub(super) fn send(&mut self, mask: u32, place: u32) {
        for lane in lanes(mask) {
            self.places[lane] = place;
        }
    }

    fn step(
        &mut self,
        program: &Program,
        step: &Step,
        place: u32,
        mask: u32,
        active: u32,
        env: &mut Environment<'_>,
    ) -> Result<Next, Stop> {
        let first = active.trailing_zeros() as usize;
        match &step.op {
            Op::Compute(compute) => compute(&mut self.registers, active),
            Op::Load(access) => self.load(access, active, env)?,
            Op::Store(access) => self.store(access, active, env)?,
            Op::Atomic(atomic) => self.atomic(atomic, active, env)?,
            Op::Nothing => {}
            Op::Clock(d) => {
                let count = self.instructions;
                self.registers.each(*d, active, |_| count);
            }
            Op::Branch(target) if active == mask => return Ok(Next::Jump(*target)),
            Op::Branch(target) => {
                self.send(mask, place + 1);
                self.send(active, *target);
                return Ok(Next::Scattered);
            }
            Op::BranchIndexed(index, targets) => {
                self.send(mask, place + 1);
                for lane in lanes(active) {
                    let index = self.registers[*index][lane] as u32;
                    let Some(&target) = targets.get(index as usize) else {
                        let message = format!("branch {index} of {}", targets.len());
                        return Err(Stop::new(lane, Fault::new(FaultKind::IllegalInstruction, message)));
                    };
                    self.places[lane] = target;
                }
                return Ok(Next::Scattered);
            }
            Op::Call(call) => {
                self.transfer(&call.arguments, active);
                self.registers.each(call.back, active, |_| u64::from(place) + 1);
                self.send(mask, place + 1);
                self.send(active, call.target);
                return Ok(Next::Scattered);
            }
            Op::Return(back) => {
                self.send(mask, place + 1);
                for lane in lanes(active) {
                    self.leave(program, *back, lane);
                }
                return Ok(Next::Scattered);
            }
            Op::Exit => {
                self.exited |= active;
                self.send(mask & !active, place + 1);
                return Ok(Next::Scattered);
            }
            Op::Trap => return Err(Stop::new(first, Fault::new(FaultKind::Assert, "trap"))),
            Op::AssertFail(places) => {
                let message = print::assertion(self, env, first, *places);
                return Err(Stop::new(first, Fault::new(FaultKind::Assert, message)));
            }
            Op::Print { format, values, result } => {
                for lane in lanes(active) {
                    print::print(self, env, lane, [*format, *values, *result])
                        .map_err(|fault| Stop::new(lane, fault))?;
                }
            }
            Op::Unknown => {
                let message = format!("`{}` is not known here", step.text);
                return Err(Stop::new(first, Fault::new(FaultKind::IllegalInstruction, message)));
            }
            Op::Rendezvous(members, act) => {
                let together = self.come(program, place, active, *members, act.as_ref())?;
                if together && active == mask {
                    return Ok(Next::Step);
                }
                self.send(mask & !active, place + 1);
                if together {
                    self.send(active, place + 1);
                }
                return Ok(Next::Scattered);
            }
            Op::Barrier(barrier) if barrier.kind == BarrierKind::Arrive => {
                self.arrivals.push(self.registers[barrier.number][first]);
            }
            Op::Barrier(_) => {
                self.send(mask, place + 1);
                self.send(active, place);
                self.at_barrier |= active;
                return Ok(Next::Scattered);
            }
        }
        Ok(Next::Step)
    }

    /// A lane goes back to its caller.
    fn leave(&mut self, program: &Program, back: Slot, lane: usize) {
        let place = self.registers[back][lane] as u32;
        self.places[lane] = place;
        if let Op::Call(Call { results, .. }) = &program.steps[place as usize - 1].op {
            self.transfer(results, 1 << lane);
        }
    }

    fn transfer(&mut self, transfers: &[Transfer], active: u32) {
        let size = self.local.len() / 32;
        for transfer in transfers {
            match *transfer {
                Transfer::Bytes { from, to, len } => {
                    for lane in lanes(active) {
                        let from = lane * size + from as usize;
                        self.local.copy_within(from..from + len as usize, lane * size + to as usize);
                    }
                }
                Transfer::Store { from, to, len } => {
                    for lane in lanes(active) {
                        let (to, len) = (lane * size + to as usize, len as usize);
                        self.local[to..to + len]
                            .copy_from_slice(&self.registers[from][lane].to_le_bytes()[..len]);
                    }
                }
                Transfer::Load { from, to, len } => {
                    for lane in lanes(active) {
                        let mut bytes = [0; 8];
                        let (from, len) = (lane * size + from as usize, len as usize);
                        bytes[..len].copy_from_slice(&self.local[from..from + len]);
                        self.registers.set(to, lane, u64::from_le_bytes(bytes));
                    }
                }
                Transfer::Slot { from, to } => {
                    let values = self.registers[from];
                    self.registers.each(to, active, |lane| values[lane]);
                }
            }
        }
    }
}
