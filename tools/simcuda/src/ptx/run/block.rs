//! A block: its warps take turns until all are at an end or at a barrier.

use super::access::Environment;
use super::races::Races;
use super::shared::Shared;
use super::warp::{Stop, Warp};
use super::{Launch, order};
use crate::fault::{Fault, FaultKind};
use crate::launch::LaunchCounts;
use crate::memory::Memory;
use crate::ptx::program::{Barrier, BarrierKind, Op, Reduction, Special, Step};
use crate::ptx::registers::lanes;

/// How many barriers a block has.
const BARRIERS: u64 = 16;

/// The block that runs. Its warps and its memory serve one block after the other.
#[derive(Debug)]
pub(super) struct Block<'a> {
    launch: Launch<'a>,
    env: Environment<'a>,
    warps: Vec<Warp>,
    /// In which the warps have their turns.
    turns: Vec<usize>,
    /// Threads that came to each barrier without waiting.
    arrived: [u64; BARRIERS as usize],
    index: [u32; 3],
}

impl<'a> Block<'a> {
    pub(super) fn new(launch: Launch<'a>, memory: &'a mut Memory) -> Self {
        let threads = launch.threads();
        let options = launch.options;
        let shared = launch.static_shared as usize + launch.grid.dynamic_shared as usize;
        let warps: Vec<Warp> = (0..threads.div_ceil(32))
            .map(|number| {
                let present = u32::MAX >> (32 - (threads - 32 * number).min(32));
                Warp::new(number as u16, present, launch.program)
            })
            .collect();
        let turns = order(options.order, warps.len() as u64).map(|warp| warp as usize).collect();
        let env = Environment {
            memory,
            parameters: launch.parameters,
            shared: Shared::new(shared, options.uninitialized_shared),
            races: (options.races && threads > 1).then(Races::new),
            counts: LaunchCounts::default(),
        };
        let mut block = Self { launch, env, warps, turns, arrived: [0; BARRIERS as usize], index: [0; 3] };
        block.fill_constants();
        block
    }

    pub(super) fn counts(&self) -> LaunchCounts {
        self.env.counts
    }

    /// Constants and special registers.
    fn fill_constants(&mut self) {
        let [x, y, _] = self.launch.grid.threads.map(|n| n as usize);
        let warps = self.warps.len() as u64;
        for warp in &mut self.warps {
            for &(slot, bits) in &self.launch.program.constants {
                warp.registers.fill(slot, bits);
            }
            for &(slot, special) in &self.launch.program.specials {
                let first = usize::from(warp.number) * 32;
                let grid = self.launch.grid;
                let dynamic = grid.dynamic_shared;
                let value = |lane: usize| {
                    let thread = first + lane;
                    let bit = 1u32 << lane;
                    match special {
                        Special::Thread(0) => (thread % x) as u64,
                        Special::Thread(1) => (thread / x % y) as u64,
                        Special::Thread(_) => (thread / x / y) as u64,
                        Special::Threads(axis) => grid.threads[axis].into(),
                        Special::Block(_) | Special::Zero => 0,
                        Special::Blocks(axis) => grid.blocks[axis].into(),
                        Special::Lane => lane as u64,
                        Special::Warp => warp.number.into(),
                        Special::Warps => warps,
                        Special::LanesEqual => bit.into(),
                        Special::LanesLess => (bit - 1).into(),
                        Special::LanesLessEqual => ((bit - 1) | bit).into(),
                        Special::LanesGreater => (!((bit - 1) | bit)).into(),
                        Special::LanesGreaterEqual => (!(bit - 1)).into(),
                        Special::DynamicShared => dynamic.into(),
                        Special::TotalShared => (self.launch.static_shared + dynamic).into(),
                        Special::One => 1,
                    }
                };
                for lane in 0..32 {
                    warp.registers.set(slot, lane, value(lane));
                }
            }
        }
    }

    /// Runs one block to its end.
    pub(super) fn run(&mut self, index: [u32; 3]) -> Result<(), Fault> {
        self.index = index;
        self.env.shared.reset();
        self.arrived = [0; BARRIERS as usize];
        if let Some(races) = &mut self.env.races {
            races.reset();
        }
        for warp in &mut self.warps {
            warp.reset(self.launch.program);
            for &(slot, special) in &self.launch.program.specials {
                if let Special::Block(axis) = special {
                    warp.registers.fill(slot, index[axis].into());
                }
            }
        }
        let budget = self.launch.options.instructions;
        loop {
            let mut went = false;
            for &turn in &self.turns {
                let warp = &mut self.warps[turn];
                if warp.ready() != 0 {
                    went = true;
                    let ran = warp.run(self.launch.program, &mut self.env, budget);
                    ran.map_err(|stop| self.placed(turn, stop))?;
                    for number in self.warps[turn].arrivals.split_off(0) {
                        self.arrived[(number % BARRIERS) as usize] += 32;
                    }
                }
            }
            if self.warps.iter().all(|warp| warp.live() == 0) {
                return Ok(());
            }
            if !self.release().map_err(|(turn, stop)| self.placed(turn, stop))? && !went {
                let (turn, stop) = self.deadlock();
                return Err(self.placed(turn, stop));
            }
        }
    }

    /// A fault with its place.
    fn placed(&self, warp: usize, stop: Stop) -> Fault {
        let [x, y, _] = self.launch.grid.threads.map(|n| n as usize);
        let thread = warp * 32 + stop.lane;
        let place = self.warps[warp].places[stop.lane];
        let text = self.launch.program.steps.get(place as usize).map_or("", |step| &step.text);
        let place = format!(
            "kernel {}, block {:?}, thread {:?}, `{text}`",
            self.launch.kernel,
            self.index,
            [thread % x, thread / x % y, thread / x / y]
        );
        Fault { place, ..stop.fault }
    }

    /// The instruction that a lane waits in.
    fn waits_in(&self, warp: &Warp, lane: usize) -> &'a Step {
        &self.launch.program.steps[warp.places[lane] as usize]
    }

    /// The barrier at which all of a warp waits, with its number.
    fn barrier(&self, warp: &Warp) -> Option<(u64, &'a Barrier)> {
        if warp.live() == 0 || warp.at_barrier != warp.live() {
            return None;
        }
        let mut found = None;
        for lane in lanes(warp.at_barrier) {
            let Op::Barrier(barrier) = &self.waits_in(warp, lane).op else { return None };
            let number = warp.registers[barrier.number][lane] % BARRIERS;
            if found.is_some_and(|(other, _)| other != number) {
                return None;
            }
            found = Some((number, barrier));
        }
        found
    }

    /// Lets those go on who wait at a barrier to which all have come; whether there were any.
    fn release(&mut self) -> Result<bool, (usize, Stop)> {
        let at: Vec<Option<(u64, &Barrier)>> = self.warps.iter().map(|warp| self.barrier(warp)).collect();
        let mut released = false;
        for number in 0..BARRIERS {
            let come: Vec<usize> =
                (0..at.len()).filter(|&warp| at[warp].is_some_and(|(other, _)| other == number)).collect();
            let Some(&first) = come.first() else { continue };
            let Some((_, barrier)) = at[first] else { continue };
            let complete = match barrier.threads {
                None => come.len() == self.warps.iter().filter(|warp| warp.live() != 0).count(),
                Some(threads) => {
                    let lane = self.warps[first].at_barrier.trailing_zeros() as usize;
                    let wanted = self.warps[first].registers[threads][lane] & u64::from(u32::MAX);
                    32 * come.len() as u64 + self.arrived[number as usize] >= wanted
                }
            };
            if !complete {
                continue;
            }
            for &warp in &come {
                self.check_aligned(warp)?;
            }
            self.reduce(&come);
            for &warp in &come {
                let warp = &mut self.warps[warp];
                for lane in lanes(warp.at_barrier) {
                    warp.places[lane] += 1;
                }
                warp.at_barrier = 0;
            }
            self.arrived[number as usize] = 0;
            self.env.counts.barriers += 1;
            if let Some(races) = &mut self.env.races {
                races.next_phase();
            }
            released = true;
        }
        Ok(released)
    }

    /// Lanes of a warp must come to an aligned barrier by one instruction.
    fn check_aligned(&self, number: usize) -> Result<(), (usize, Stop)> {
        let warp = &self.warps[number];
        let first = warp.at_barrier.trailing_zeros() as usize;
        let other = lanes(warp.at_barrier).find(|&lane| warp.places[lane] != warp.places[first]);
        let aligned = matches!(&self.waits_in(warp, first).op, Op::Barrier(barrier) if barrier.aligned);
        match other {
            Some(other) if aligned => {
                let message = format!(
                    "lanes {first} and {other} of a warp wait at different barriers, where all must come to the same one"
                );
                Err((number, Stop::new(other, Fault::new(FaultKind::Deadlock, message))))
            }
            _ => Ok(()),
        }
    }

    /// Gives the lanes what a `bar.red` makes of their predicates.
    fn reduce(&mut self, come: &[usize]) {
        let (mut holds, mut all) = (0u64, 0u64);
        let mut results = Vec::new();
        for &number in come {
            let warp = &self.warps[number];
            for lane in lanes(warp.at_barrier) {
                if let Op::Barrier(Barrier { kind: BarrierKind::Reduce { d, p, negated, with }, .. }) =
                    &self.waits_in(warp, lane).op
                {
                    holds += u64::from((warp.registers[*p][lane] & 1 != 0) != *negated);
                    all += 1;
                    results.push((number, lane, *d, *with));
                }
            }
        }
        for (number, lane, d, with) in results {
            let value = match with {
                Reduction::Count => holds,
                Reduction::And => u64::from(holds == all),
                Reduction::Or => u64::from(holds > 0),
            };
            self.warps[number].registers.set(d, lane, value);
        }
    }

    /// No warp can go on: which wait, and for which.
    fn deadlock(&self) -> (usize, Stop) {
        let place = |warp: &Warp, lane: usize| {
            if warp.exited >> lane & 1 != 0 {
                "has exited".to_owned()
            } else {
                format!("waits in `{}`", self.waits_in(warp, lane).text)
            }
        };
        for (number, warp) in self.warps.iter().enumerate().filter(|(_, warp)| warp.meeting != 0) {
            let lane = warp.meeting.trailing_zeros() as usize;
            let named = warp.named[lane];
            let come = warp.with(self.launch.program, lane);
            let missing = named & warp.present & !come;
            if missing != 0 {
                let missing = missing.trailing_zeros() as usize;
                let message = format!(
                    "lane {lane} waits for the lanes {named:#010x} that it names, and lane {missing} never comes: it {}",
                    place(warp, missing)
                );
                return (number, Stop::new(lane, Fault::new(FaultKind::Deadlock, message)));
            }
        }
        let waiting = self.warps.iter().enumerate().find(|(_, warp)| warp.at_barrier != 0);
        let Some((number, warp)) = waiting else {
            return (0, Stop::new(0, Fault::new(FaultKind::Deadlock, "nothing can go on")));
        };
        let lane = warp.at_barrier.trailing_zeros() as usize;
        let elsewhere = self.warps.iter().find_map(|other| {
            let apart = |l: usize| other.places[l] != warp.places[lane];
            lanes(other.live()).find(|&l| apart(l)).map(|l| (other, l))
        });
        let who = elsewhere.map_or_else(
            || "fewer threads come than it names".to_owned(),
            |(other, l)| format!("thread {} {}", usize::from(other.number) * 32 + l, place(other, l)),
        );
        let message = format!("a barrier waits for threads that never come: {who}");
        (number, Stop::new(lane, Fault::new(FaultKind::Deadlock, message)))
    }
}
