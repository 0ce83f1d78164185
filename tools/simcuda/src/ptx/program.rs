//! A kernel as it runs: decoded steps over slots.

use std::fmt;

use super::registers::{Compute, Slot};
use super::syntax::Space;

/// A decoded instruction.
pub(crate) struct Step {
    /// The predicate that guards it, and whether it is negated.
    pub(crate) guard: Option<(Slot, bool)>,
    pub(crate) op: Op,
    /// Its text, for reports.
    pub(crate) text: String,
}

/// What an instruction does.
pub(crate) enum Op {
    /// Something between registers.
    Compute(Compute),
    Load(Access),
    Store(Access),
    Atomic(Atomic),
    Branch(u32),
    /// To the target whose number is in the slot.
    BranchIndexed(Slot, Vec<u32>),
    Call(Call),
    /// Back to the caller whose place the slot has.
    Return(Slot),
    Exit,
    Trap,
    /// `__assertfail`, with the places of its arguments in local memory.
    AssertFail([u32; 4]),
    /// `vprintf`, likewise: its format, its values, and its result.
    Print {
        format: u32,
        values: u32,
        result: u32,
    },
    /// Something between the lanes that the slot names; each of them must come to this instruction. Where nothing is done,
    /// any other that does nothing will do.
    Rendezvous(Slot, Option<Compute>),
    Barrier(Barrier),
    /// Counts the instructions of the warp.
    Clock(Slot),
    /// Order in memory, and hints: memory here is in order.
    Nothing,
    /// A form that this device does not have.
    Unknown,
}

/// A load or a store.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) space: Space,
    pub(crate) address: Slot,
    pub(crate) offset: i64,
    /// What is loaded or stored, element by element.
    pub(crate) elements: Vec<Slot>,
    /// Bytes of an element.
    pub(crate) size: usize,
    /// Whether elements are extended by their sign.
    pub(crate) signed: bool,
    /// Whether it counts as atomic: `.volatile`, `.relaxed` and stronger.
    pub(crate) strong: bool,
}

/// The new value from the old one and the two operands.
pub(crate) type Update = Box<dyn Fn(u64, u64, u64) -> u64 + Send + Sync>;

/// `atom` and `red`.
pub(crate) struct Atomic {
    pub(crate) space: Space,
    pub(crate) address: Slot,
    pub(crate) offset: i64,
    pub(crate) size: usize,
    /// Where the old value goes.
    pub(crate) old: Option<Slot>,
    pub(crate) operands: [Slot; 2],
    pub(crate) update: Update,
    /// Instead of `update`, where the address is of global memory.
    pub(crate) global: Option<Update>,
}

/// A call: bytes of arguments, the function, bytes of results.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) target: u32,
    /// Where the function finds its way back.
    pub(crate) back: Slot,
    pub(crate) arguments: Vec<Transfer>,
    pub(crate) results: Vec<Transfer>,
}

/// A copy between a caller and a function.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transfer {
    /// In local memory.
    Bytes { from: u32, to: u32, len: u32 },
    /// Between registers.
    Slot { from: Slot, to: Slot },
    /// From a register to local memory.
    Store { from: Slot, to: u32, len: u32 },
    /// From local memory to a register.
    Load { from: u32, to: Slot, len: u32 },
}

/// `bar` and `barrier` of a block.
#[derive(Debug)]
pub(crate) struct Barrier {
    pub(crate) number: Slot,
    /// How many threads take part; all if none.
    pub(crate) threads: Option<Slot>,
    pub(crate) kind: BarrierKind,
    /// Whether all lanes of a warp must come by the same instruction.
    pub(crate) aligned: bool,
}

/// What a barrier does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarrierKind {
    Sync,
    /// Comes, but does not wait.
    Arrive,
    /// Gives to `d` how many of the predicates hold, whether all or whether any.
    Reduce {
        d: Slot,
        p: Slot,
        negated: bool,
        with: Reduction,
    },
}

/// How predicates are reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    Count,
    And,
    Or,
}

/// A register whose value the launch gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    Lane,
    Warp,
    Warps,
    LanesEqual,
    LanesLess,
    LanesLessEqual,
    LanesGreater,
    LanesGreaterEqual,
    DynamicShared,
    TotalShared,
    /// Of registers that say which part of the machine runs: here there is one.
    Zero,
    One,
}

/// A decoded kernel, with the functions that it calls before it: the lowest instruction runs first, so a call returns
/// before its caller goes on.
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    pub(crate) entry: u32,
    pub(crate) slots: usize,
    pub(crate) constants: Vec<(Slot, u64)>,
    pub(crate) specials: Vec<(Slot, Special)>,
    /// Bytes of local memory of a thread.
    pub(crate) local: usize,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| &step.text)).finish()
    }
}
